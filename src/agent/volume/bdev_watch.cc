#include "agent/volume/bdev_watch.h"

#include <algorithm>
#include <utility>

#include "agent/spdk/bdev.h"
#include "jsonrpc/error.h"

namespace sma::volume {

using base::Context;
using base::Uuid;
using spdk::BdevEvent;

namespace {

// How many bdevs are asked for together.
constexpr size_t kMaxLookUps = 64;

}  // namespace

void BdevWatch::SetVolumes(const std::vector<record::Volume>& rows) {
  std::map<Uuid, Watched> watched;
  for (const record::Volume& row : rows) {
    if (row.state != record::VolumeState::kAttached) continue;
    std::string exported(spdk::EventName(row.bdev_name));
    auto known = volumes_.find(row.id);
    if (known != volumes_.end() && known->second.exported == exported) {
      watched.insert(volumes_.extract(known));
      continue;
    }
    watched[row.id] = {.exported = std::move(exported),
                       .underlying = {},
                       .is_missing = row.last_error.code != absl::StatusCode::kOk};
    to_look_up_.insert(row.id);
  }
  volumes_ = std::move(watched);
  std::erase_if(to_look_up_, [this](const Uuid& id) { return !volumes_.contains(id); });
  std::erase_if(changed_, [this](const Uuid& id) { return !volumes_.contains(id); });
}

absl::StatusOr<std::set<Uuid>> BdevWatch::Poll(const Context& context) {
  if (const uint64_t generation = target_.generation(); generation != generation_) {
    generation_ = generation;
    is_supported_ = true;
    next_event_.reset();
    for (const auto& [id, volume] : volumes_) to_look_up_.insert(id);
  }
  absl::Status status = ReadEvents(context);
  // Events first: what changes after a look-up is told by an event of the next round.
  if (status.ok() && is_supported_) status = LookUp(context);
  if (!status.ok()) return status;
  return std::exchange(changed_, {});
}

absl::Status BdevWatch::ReadEvents(const Context& context) {
  if (!is_supported_) return absl::OkStatus();
  const jsonrpc::Request request = spdk::GetNotifications(next_event_.value_or(0));
  absl::StatusOr<jsonrpc::Json> answer = std::move(target_.CallMany(context, {&request, 1})[0]);
  if (!answer.ok()) {
    auto error = jsonrpc::GetTargetError(answer.status());
    if (!error || error->code != jsonrpc::kMethodNotFound) return answer.status();
    is_supported_ = false;
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<BdevEvent>> events = spdk::ParseNotifications(*answer);
  if (!events.ok()) return events.status();
  if (next_event_) {
    // There were more than the target keeps.
    if (!events->empty() && events->front().id != *next_event_) DisturbAll();
    Note(*events);
  }
  const uint64_t begin = next_event_.value_or(0);
  next_event_ = events->empty() ? begin : std::max(begin, events->back().id + 1);
  return absl::OkStatus();
}

void BdevWatch::DisturbAll() {
  for (auto& [id, volume] : volumes_) {
    volume.is_disturbed = true;
    to_look_up_.insert(id);
  }
}

void BdevWatch::Note(const std::vector<BdevEvent>& events) {
  std::set<std::string> gone;
  bool any_new = false;
  for (const BdevEvent& event : events) {
    if (event.kind == BdevEvent::Kind::kUnregistered) gone.insert(event.bdev_name);
    any_new |= event.kind == BdevEvent::Kind::kRegistered;
  }
  if (gone.empty() && !any_new) return;
  for (auto& [id, volume] : volumes_) {
    const bool went = gone.contains(volume.exported) || gone.contains(volume.underlying);
    volume.is_disturbed |= went;
    if (went || (any_new && volume.is_missing)) to_look_up_.insert(id);
  }
}

absl::Status BdevWatch::LookUp(const Context& context) {
  while (!to_look_up_.empty()) {
    std::vector<Uuid> ids;
    std::vector<jsonrpc::Request> requests;
    for (const Uuid& id : to_look_up_) {
      if (ids.size() == kMaxLookUps) break;
      ids.push_back(id);
      requests.push_back(spdk::GetBdev(id.ToString()));
    }
    auto answers = target_.CallMany(context, requests);
    for (size_t i = 0; i < ids.size(); ++i) {
      absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(answers[i]);
      if (!bdev.ok()) return bdev.status();
      if (known_ != nullptr) known_->NoteBdev(generation_, ids[i], *bdev);
      LookedUp(ids[i], *bdev ? std::optional((*bdev)->name) : std::nullopt);
    }
  }
  return absl::OkStatus();
}

void BdevWatch::LookedUp(const Uuid& id, const std::optional<std::string>& bdev_name) {
  to_look_up_.erase(id);
  Watched& volume = volumes_.at(id);
  const bool is_missing = !bdev_name;
  if (volume.is_missing != is_missing || volume.is_disturbed) changed_.insert(id);
  volume.is_missing = is_missing;
  volume.is_disturbed = false;
  if (bdev_name) volume.underlying = std::string(spdk::EventName(*bdev_name));
}

}  // namespace sma::volume
