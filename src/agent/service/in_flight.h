// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "base/context.h"
#include "base/mutex.h"

namespace sma::service {

/// The calls in progress, so that a stop can wait for them and then cancel them. Must outlive its
/// tickets. Thread-safe.
class InFlight {
 public:
  /// Counts one call as in progress while it exists.
  class Ticket {
   public:
    Ticket(InFlight& calls, uint64_t id) : calls_(&calls), id_(id) {}
    Ticket(Ticket&& other) noexcept : calls_(other.calls_), id_(other.id_) {
      other.calls_ = nullptr;
    }
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket() {
      if (calls_ != nullptr) calls_->Remove(id_);
    }

   private:
    InFlight* calls_;
    uint64_t id_;
  };

  /// Returns nullopt after Close().
  std::optional<Ticket> Add(const base::Context& context) SMA_EXCLUDES(mutex_);

  /// From now on, Add() refuses calls.
  void Close() SMA_EXCLUDES(mutex_);

  /// Waits until no call is in progress. Returns false if `when` passes first.
  bool WaitUntilNone(base::TimePoint when) SMA_EXCLUDES(mutex_);

  /// Cancels the contexts of all calls.
  void CancelAll() SMA_EXCLUDES(mutex_);

  uint32_t count() SMA_EXCLUDES(mutex_);

 private:
  void Remove(uint64_t id) SMA_EXCLUDES(mutex_);

  base::Mutex mutex_;
  base::CondVar none_left_;
  bool closed_ SMA_GUARDED_BY(mutex_) = false;
  uint64_t next_id_ SMA_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, base::Context> calls_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::service
