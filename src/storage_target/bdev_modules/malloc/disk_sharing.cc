// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/malloc/disk_sharing.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "storage_target/bdev/in_place.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_malloc {
namespace {

// The minimum size of a run. For each run of a larger write, the copy waits once for its
// non-temporal stores.
constexpr size_t kMinRunBytes = 32 * 1024;
// After this many spins the lock holder has probably been preempted.
constexpr int kSpinsBeforeYield = 1000;

void Pause() {
#ifdef __SSE2__
  __builtin_ia32_pause();
#endif
}

}  // namespace

DiskSharing::DiskSharing(size_t block_size)
    : run_bytes_(std::max<size_t>(kMinRunBytes / block_size, 1) * block_size) {}

void DiskSharing::AddChannel(Reactor& reactor) {
  base::MutexLock lock(mutex_);
  ++channels_[&reactor];
}

void DiskSharing::RemoveChannel(Reactor& reactor) {
  base::MutexLock lock(mutex_);
  auto found = channels_.find(&reactor);
  if (--found->second > 0) return;
  channels_.erase(found);
  const bool was_owner = IsOwner(reactor);
  if (was_owner && !waiting_.empty()) {
    ShareLocked();
  } else if (was_owner || channels_.empty()) {
    owner_.store(nullptr, std::memory_order_release);
  }
  // The remaining reactor becomes the owner, rather than leaving the disk without one: it may be
  // copying right now, so another reactor must request the disk from it.
  if (channels_.size() == 1 && owner_.load(std::memory_order_relaxed) == this) {
    owner_.store(channels_.begin()->first, std::memory_order_release);
  }
}

DiskSharing::Access DiskSharing::TryAccess(Reactor& reactor) {
  base::MutexLock lock(mutex_);
  return TryAccessLocked(reactor);
}

DiskSharing::Access DiskSharing::TryAccessLocked(Reactor& reactor) {
  const void* owner = owner_.load(std::memory_order_relaxed);
  if (owner == this) return Access::kLocked;
  if (owner != nullptr && owner != &reactor) return Access::kWait;
  owner_.store(&reactor, std::memory_order_relaxed);
  return Access::kOwner;
}

DiskSharing::Access DiskSharing::Request(Reactor& reactor, const std::weak_ptr<Waiter>& waiter) {
  if (owner_.load(std::memory_order_acquire) == this) return Access::kLocked;
  base::MutexLock lock(mutex_);
  const Access access = TryAccessLocked(reactor);
  if (access != Access::kWait) return access;
  const bool asked = !waiting_.empty();
  waiting_.push_back({&reactor, waiter});
  if (asked) return access;
  for (const auto& [owner, count] : channels_) {
    if (!IsOwner(*owner)) continue;
    owner->Post([self = shared_from_this(), asked_owner = owner] { self->Share(*asked_owner); });
  }
  return access;
}

// Runs on the thread of `owner`, which may have lost ownership since then.
void DiskSharing::Share(Reactor& owner) {
  base::MutexLock lock(mutex_);
  if (!IsOwner(owner)) return;
  if (channels_.size() > 1) return ShareLocked();
  waiting_.clear();  // the others have closed their channels
}

// Runs on the thread of the owner.
void DiskSharing::ShareLocked() {
  bdev::RevokeInPlace();
  owner_.store(this, std::memory_order_release);
  for (Waiting& waiting : std::exchange(waiting_, {})) {
    waiting.reactor->Post([waiter = std::move(waiting.waiter)] {
      if (auto alive = waiter.lock()) alive->OnShared();
    });
  }
}

void DiskSharing::AcquireContended(std::atomic<bool>& taken) {
  do {
    for (int spins = 0; taken.load(std::memory_order_relaxed); ++spins) {
      if (spins < kSpinsBeforeYield) {
        Pause();
      } else {
        ::sched_yield();
      }
    }
  } while (taken.exchange(true, std::memory_order_acquire));
}

}  // namespace sma::storage_target::bdev_malloc
