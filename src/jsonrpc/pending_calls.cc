#include "jsonrpc/pending_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "jsonrpc/error.h"

namespace sma::jsonrpc {
namespace {

// Enough to remember: a target that owes as many answers gives none.
constexpr size_t kMaxUnanswered = 10'000;

}  // namespace

void PendingCalls::Add(CallGroup& group, std::string text) {
  group.open = group.requests.size();
  group.results.resize(group.open);
  group.ended_at.resize(group.open);
  for (size_t i = 0; i < group.open; ++i) open_.emplace(group.first_id + i, &group);
  group.piece = output_.Push(std::move(text));
  stats_.calls_sent += group.open;
  ++stats_.round_trips;
}

bool PendingCalls::GiveUp(CallGroup& group, const absl::Status& why) {
  if (group.open == 0) return false;
  const bool nothing_sent = output_.Remove(group.piece);
  for (uint64_t id = group.first_id; id < group.first_id + group.requests.size(); ++id) {
    if (open_.erase(id) == 0) continue;
    absl::Status status(why.code(),
                        fmt::format("{}: {}", group.method(id), std::string(why.message())));
    End(id, group, nothing_sent ? status : WithFateUnknown(status));
    ++stats_.given_up;
    if (!nothing_sent) unanswered_.emplace(id, std::chrono::steady_clock::now());
  }
  while (unanswered_.size() > kMaxUnanswered) unanswered_.erase(unanswered_.begin());
  return true;
}

bool PendingCalls::Deliver(std::vector<Answer>& answers, uint64_t end_id) {
  for (Answer& answer : answers) {
    auto found = open_.find(answer.id);
    if (found == open_.end()) {
      if (answer.id == 0 || answer.id >= end_id) return false;
      ++stats_.late_answers;
      unanswered_.erase(answer.id);
      continue;
    }
    CallGroup& group = *found->second;
    open_.erase(found);
    if (answer.failed) {
      ++stats_.target_errors;
      End(answer.id, group, TargetErrorStatus(group.method(answer.id), answer.error));
    } else {
      ++stats_.results;
      End(answer.id, group, std::move(answer.result));
    }
    if (group.open == 0) ended_.push_back(&group);
  }
  return true;
}

void PendingCalls::FailAll(const std::string& reason) {
  bool any_sent = !unanswered_.empty();
  for (auto& [id, group] : open_) {
    absl::Status status = absl::UnavailableError(fmt::format("{}: {}", group->method(id), reason));
    const bool sent = output_.SentBytes(group->piece) >= group->ends[id - group->first_id];
    any_sent |= sent;
    End(id, *group, sent ? WithFateUnknown(status) : status);
    if (group->open == 0) ended_.push_back(group);
    ++stats_.given_up;
  }
  open_.clear();
  output_.Clear();
  unanswered_.clear();
  if (any_sent) lost_at_ = std::chrono::steady_clock::now();
}

bool PendingCalls::MayActLate(base::TimePoint now, std::chrono::nanoseconds after_loss,
                              std::chrono::nanoseconds max_answer_time) const {
  if (lost_at_ && now - *lost_at_ < after_loss) return true;
  return std::any_of(unanswered_.begin(), unanswered_.end(),
                     [&](const auto& entry) { return now - entry.second < max_answer_time; });
}

void PendingCalls::End(uint64_t id, CallGroup& group, absl::StatusOr<Json> result) {
  group.results[id - group.first_id] = std::move(result);
  group.ended_at[id - group.first_id] = std::chrono::steady_clock::now();
  --group.open;
}

}  // namespace sma::jsonrpc
