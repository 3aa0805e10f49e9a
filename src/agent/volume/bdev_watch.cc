// SPDX-License-Identifier: Apache-2.0

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

// The maximum number of bdevs queried in one batch.
constexpr size_t kMaxQueries = 64;

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
    const bool has_layer = row.params.has_crypto() && row.bdev_name != row.id.ToString();
    watched[row.id] = {.exported = std::move(exported),
                       .layer = has_layer ? row.bdev_name : std::string(),
                       .underlying = {},
                       .is_missing = row.last_error.code != absl::StatusCode::kOk};
    to_query_.insert(row.id);
  }
  volumes_ = std::move(watched);
  std::erase_if(to_query_, [this](const Uuid& id) { return !volumes_.contains(id); });
  std::erase_if(changed_, [this](const Uuid& id) { return !volumes_.contains(id); });
}

absl::StatusOr<std::set<Uuid>> BdevWatch::Poll(const Context& context) {
  if (const uint64_t generation = target_.generation(); generation != generation_) {
    generation_ = generation;
    is_supported_ = true;
    next_event_.reset();
    for (const auto& [id, volume] : volumes_) to_query_.insert(id);
  }
  absl::Status status = ReadEvents(context);
  // Events are read first, so that a change after the query of the bdevs is reported by an event in
  // the next poll.
  if (status.ok() && is_supported_) status = QueryBdevs(context);
  if (!status.ok()) return status;
  return std::exchange(changed_, {});
}

absl::Status BdevWatch::ReadEvents(const Context& context) {
  if (!is_supported_) return absl::OkStatus();
  const jsonrpc::Request request = spdk::GetNotifications(next_event_.value_or(0));
  absl::StatusOr<jsonrpc::Json> answer = target_.Call(context, request);
  if (!answer.ok()) {
    auto error = jsonrpc::GetTargetError(answer.status());
    if (!error || error->code != jsonrpc::kMethodNotFound) return answer.status();
    is_supported_ = false;
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<BdevEvent>> events = spdk::ParseNotifications(*answer);
  if (!events.ok()) return events.status();
  if (known_ != nullptr) known_->NoteEvents(*events);
  if (next_event_) {
    // Some events were missed, because the target keeps only a limited number of them.
    if (!events->empty() && events->front().id != *next_event_) SuspectAll();
    Note(*events);
  }
  const uint64_t begin = next_event_.value_or(0);
  next_event_ = events->empty() ? begin : std::max(begin, events->back().id + 1);
  return absl::OkStatus();
}

void BdevWatch::SuspectAll() {
  for (auto& [id, volume] : volumes_) {
    volume.was_unregistered = true;
    to_query_.insert(id);
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
    volume.was_unregistered |= went;
    if (went || (any_new && volume.is_missing)) to_query_.insert(id);
  }
}

absl::Status BdevWatch::QueryBdevs(const Context& context) {
  while (!to_query_.empty()) {
    std::vector<Uuid> ids;
    std::vector<jsonrpc::Request> requests;
    for (const Uuid& id : to_query_) {
      if (ids.size() == kMaxQueries) break;
      ids.push_back(id);
      requests.push_back(spdk::GetBdev(id.ToString()));
      const std::string& layer = volumes_.at(id).layer;
      if (!layer.empty()) requests.push_back(spdk::GetBdev(layer));
    }
    auto answers = target_.CallMany(context, requests);
    size_t next = 0;
    for (const Uuid& id : ids) {
      absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(answers[next++]);
      if (!bdev.ok()) return bdev.status();
      bool has_layer = true;
      if (!volumes_.at(id).layer.empty()) {
        absl::StatusOr<std::optional<spdk::Bdev>> layer = spdk::ParseBdev(answers[next++]);
        if (!layer.ok()) return layer.status();
        has_layer = layer->has_value();
      }
      if (known_ != nullptr) known_->NoteBdev(generation_, id, *bdev);
      NoteAnswer(id, *bdev ? std::optional((*bdev)->name) : std::nullopt, has_layer);
    }
  }
  return absl::OkStatus();
}

void BdevWatch::NoteAnswer(const Uuid& id, const std::optional<std::string>& bdev_name,
                           bool has_layer) {
  to_query_.erase(id);
  Watched& volume = volumes_.at(id);
  const bool is_missing = !bdev_name || !has_layer;
  if (volume.is_missing != is_missing || volume.was_unregistered) changed_.insert(id);
  volume.is_missing = is_missing;
  volume.was_unregistered = false;
  if (bdev_name) volume.underlying = std::string(spdk::EventName(*bdev_name));
}

}  // namespace sma::volume
