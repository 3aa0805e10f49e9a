// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/portal_checks.h"

#include <algorithm>
#include <map>
#include <string>
#include <thread>

#include "agent/volume/iscsi_units.h"
#include "base/context.h"
#include "base/mutex.h"

namespace sma::volume {

using base::MutexLock;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

namespace {

constexpr int kMaxChecks = 16;
// A connection and a login take at most a second each.
constexpr seconds kCheckTime{4};
constexpr seconds kRepeatTime{2};
constexpr int kFailuresOfDown = 2;

}  // namespace

struct PortalChecks::State {
  struct Portal {
    bool has_answered = false;
    bool is_running = false;
    int failures = 0;  // since the last answer
    base::TimePoint next;
  };

  base::Mutex mutex;
  std::map<std::string, Portal> portals SMA_GUARDED_BY(mutex);  // by address
  int threads SMA_GUARDED_BY(mutex) = 0;
};

PortalChecks::PortalChecks(nanoseconds period)
    : period_(period), state_(std::make_shared<State>()) {}

void PortalChecks::Begin(const std::vector<record::Volume>& rows) {
  std::map<std::string, const record::Volume*> wanted;
  for (const record::Volume& row : rows) {
    if (row.params.has_iscsi()) wanted.emplace(row.params.iscsi().portal(), &row);
  }
  MutexLock lock(state_->mutex);
  std::erase_if(state_->portals, [&](const auto& entry) {
    return !entry.second.is_running && !wanted.contains(entry.first);
  });
  for (const auto& [address, row] : wanted) {
    State::Portal& portal = state_->portals[address];
    if (portal.is_running || steady_clock::now() < portal.next) continue;
    if (state_->threads >= kMaxChecks) continue;
    portal.is_running = true;
    ++state_->threads;
    std::thread([state = state_, period = period_, unit = *row, name = address] {
      const bool answers =
          IscsiUnits::DoesPortalAnswer(base::Context::WithTimeout(kCheckTime), unit);
      MutexLock state_lock(state->mutex);
      State::Portal& checked = state->portals[name];
      checked.is_running = false;
      checked.has_answered |= answers;
      checked.failures = answers ? 0 : checked.failures + 1;
      checked.next =
          steady_clock::now() + (answers ? period : std::min<nanoseconds>(period, kRepeatTime));
      --state->threads;
    }).detach();
  }
}

std::optional<PathCount> PortalChecks::PathsOf(const record::Volume& row) const {
  MutexLock lock(state_->mutex);
  const auto found = state_->portals.find(row.params.iscsi().portal());
  if (found == state_->portals.end() || !found->second.has_answered) return std::nullopt;
  return PathCount{.up = found->second.failures < kFailuresOfDown ? 1U : 0U, .total = 1};
}

}  // namespace sma::volume
