// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/late_calls.h"

#include <algorithm>
#include <utility>

namespace sma::jsonrpc {

namespace {

// A target with this many unanswered requests is assumed to have stopped answering.
constexpr size_t kMaxUnanswered = 10'000;
// How long lost calls are kept, which is longer than any period for which callers query.
constexpr std::chrono::hours kKeepLost{1};

thread_local CallObjects current_objects;

}  // namespace

CallScope::CallScope(CallObjects objects)
    : before_(std::exchange(current_objects, std::move(objects))) {}

CallScope::~CallScope() { current_objects = before_; }

CallObjects CallScope::Current() { return current_objects; }

void LateCalls::Add(uint64_t id, const CallObjects& objects, base::TimePoint now) {
  if (objects == nullptr) return;
  calls_.insert_or_assign(id, Call{.objects = objects, .given_up = now});
  for (const std::string& object : *objects) unanswered_[object][id] = now;
  if (calls_.size() > kMaxUnanswered) Remove(calls_.begin()->first);
}

void LateCalls::Remove(uint64_t id) {
  auto found = calls_.find(id);
  if (found == calls_.end()) return;
  Forget(id, found->second.objects);
  calls_.erase(found);
}

void LateCalls::Forget(uint64_t id, const CallObjects& objects) {
  for (const std::string& object : *objects) {
    auto of_object = unanswered_.find(object);
    if (of_object == unanswered_.end()) continue;
    of_object->second.erase(id);
    if (of_object->second.empty()) unanswered_.erase(of_object);
  }
}

void LateCalls::Lose(const CallObjects& objects, base::TimePoint now) {
  if (objects == nullptr) return;
  for (const std::string& object : *objects) lost_[object] = now;
}

void LateCalls::LoseAll(base::TimePoint now) {
  std::erase_if(lost_, [&](const auto& entry) { return now - entry.second > kKeepLost; });
  for (const auto& [object, ids] : unanswered_) lost_[object] = now;
  unanswered_.clear();
  calls_.clear();
}

bool LateCalls::Any(std::span<const std::string> objects, base::TimePoint now,
                    std::chrono::nanoseconds after_loss,
                    std::chrono::nanoseconds max_answer_time) const {
  return std::any_of(objects.begin(), objects.end(), [&](const std::string& object) {
    auto lost = lost_.find(object);
    if (lost != lost_.end() && now - lost->second < after_loss) return true;
    auto unanswered = unanswered_.find(object);
    return unanswered != unanswered_.end() &&
           std::any_of(unanswered->second.begin(), unanswered->second.end(),
                       [&](const auto& entry) { return now - entry.second < max_answer_time; });
  });
}

}  // namespace sma::jsonrpc
