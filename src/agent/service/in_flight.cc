// SPDX-License-Identifier: Apache-2.0

#include "agent/service/in_flight.h"

#include <vector>

namespace sma::service {

std::optional<InFlight::Ticket> InFlight::Add(const base::Context& context) {
  base::MutexLock lock(mutex_);
  if (closed_) return std::nullopt;
  uint64_t id = next_id_++;
  calls_.emplace(id, context);
  return Ticket(*this, id);
}

void InFlight::Remove(uint64_t id) {
  base::MutexLock lock(mutex_);
  calls_.erase(id);
  if (calls_.empty()) none_left_.NotifyAll();
}

void InFlight::Close() {
  base::MutexLock lock(mutex_);
  closed_ = true;
}

bool InFlight::WaitUntilNone(base::TimePoint when) {
  base::MutexLock lock(mutex_);
  while (!calls_.empty()) {
    if (!none_left_.WaitUntil(mutex_, when) && !calls_.empty()) return false;
  }
  return true;
}

void InFlight::CancelAll() {
  std::vector<base::Context> contexts;
  {
    base::MutexLock lock(mutex_);
    for (const auto& [id, context] : calls_) contexts.push_back(context);
  }
  for (const base::Context& context : contexts) context.Cancel();
}

uint32_t InFlight::count() {
  base::MutexLock lock(mutex_);
  return static_cast<uint32_t>(calls_.size());
}

}  // namespace sma::service
