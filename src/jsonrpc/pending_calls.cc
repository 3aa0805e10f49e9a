// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/pending_calls.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "jsonrpc/error.h"

namespace sma::jsonrpc {
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
    if (!nothing_sent && !OnlyReads(group.method(id))) {
      late_.Add(id, group.objects, std::chrono::steady_clock::now());
    }
  }
  return true;
}

bool PendingCalls::Deliver(std::vector<Answer>& answers, uint64_t end_id) {
  for (Answer& answer : answers) {
    auto found = open_.find(answer.id);
    if (found == open_.end()) {
      if (answer.id == 0 || answer.id >= end_id) return false;
      ++stats_.late_answers;
      late_.Remove(answer.id);
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
  const auto now = std::chrono::steady_clock::now();
  late_.LoseAll(now);
  for (auto& [id, group] : open_) {
    absl::Status status = absl::UnavailableError(fmt::format("{}: {}", group->method(id), reason));
    const bool sent = output_.SentBytes(group->piece) >= group->ends[id - group->first_id];
    if (sent && !OnlyReads(group->method(id))) late_.Lose(group->objects, now);
    End(id, *group, sent ? WithFateUnknown(status) : status);
    if (group->open == 0) ended_.push_back(group);
    ++stats_.given_up;
  }
  open_.clear();
  output_.Clear();
}

void PendingCalls::End(uint64_t id, CallGroup& group, absl::StatusOr<Json> result) {
  group.results[id - group.first_id] = std::move(result);
  group.ended_at[id - group.first_id] = std::chrono::steady_clock::now();
  --group.open;
}

}  // namespace sma::jsonrpc
