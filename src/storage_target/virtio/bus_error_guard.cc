// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/bus_error_guard.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

#include "base/mutex.h"

namespace sma::storage_target::virtio {
namespace {

// Read by the signal handler without a lock: `begin` is written before `end`, and a slot whose
// `end` is 0 is skipped. The handler reads `end` again after `begin`, because the slot may have
// been given to another guard in between.
struct Slot {
  bool taken = false;  // with `slots_mutex`
  std::atomic<bool> broken{false};
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
};

std::array<Slot, BusErrorGuard::kMaxGuards> slots;
base::Mutex slots_mutex;                            // for changes; not used by the signal handler
std::atomic<size_t> used_slots{0};                  // slots from this index on are free
size_t first_free SMA_GUARDED_BY(slots_mutex) = 0;  // the slots before this one are taken
size_t guard_count SMA_GUARDED_BY(slots_mutex) = 0;

// See GuardShare. One device gets 1,024, as many regions as a vfio-user client may map.
constexpr size_t kMinimum = 64;
constexpr size_t kKeptForMinimum = BusErrorGuard::kMaxGuards / 2;
constexpr size_t kPartOfFree = 7;

// Replaces the guarded mapping that contains `address` with zeroes; returns false if there is none.
// Async-signal-safe.
bool ReplaceMapping(uintptr_t address) {
  const size_t count = used_slots.load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i) {
    Slot& slot = slots[i];
    const uintptr_t end = slot.end.load(std::memory_order_acquire);
    const uintptr_t begin = slot.begin.load(std::memory_order_acquire);
    if (slot.end.load(std::memory_order_acquire) != end) {
      --i;
      continue;
    }
    if (address < begin || address >= end) continue;
    void* zeroes = ::mmap(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (zeroes == MAP_FAILED) return false;
    slot.broken.store(true, std::memory_order_release);
    return true;
  }
  return false;
}

}  // namespace

bool GuardShare::MayTake(size_t all) const {
  const size_t used = used_.load(std::memory_order_relaxed);
  if (used < kMinimum) return true;
  return all + kKeptForMinimum + used * kPartOfFree < BusErrorGuard::kMaxGuards;
}

// A fault outside all guarded mappings ends the program as it would without this handler: the
// instruction is repeated with the signal's default action.
void BusErrorGuard::OnSignal(int signal, siginfo_t* info, void* /*context*/) {
  if (ReplaceMapping(reinterpret_cast<uintptr_t>(info->si_addr))) {
    broken_count_.fetch_add(1, std::memory_order_release);
    return;
  }
  ::signal(signal, SIG_DFL);
}

size_t BusErrorGuard::searched_slots() { return used_slots.load(std::memory_order_relaxed); }

// Returns kMaxGuards if there is none.
size_t BusErrorGuard::TakeSlot() {
  base::MutexLock lock(slots_mutex);
  if (share_ && !share_->MayTake(guard_count)) return kMaxGuards;
  while (first_free < kMaxGuards && slots[first_free].taken) ++first_free;
  if (first_free == kMaxGuards) return kMaxGuards;
  const size_t slot = first_free++;
  slots[slot].taken = true;
  if (slot >= used_slots.load(std::memory_order_relaxed))
    used_slots.store(slot + 1, std::memory_order_release);
  ++guard_count;
  if (share_) share_->used_.fetch_add(1, std::memory_order_relaxed);
  return slot;
}

void BusErrorGuard::FreeSlot() {
  base::MutexLock lock(slots_mutex);
  slots[slot_].end.store(0, std::memory_order_release);
  slots[slot_].taken = false;
  first_free = std::min(first_free, slot_);
  size_t used = used_slots.load(std::memory_order_relaxed);
  while (used > 0 && !slots[used - 1].taken) --used;
  used_slots.store(used, std::memory_order_release);
  --guard_count;
  if (share_) share_->used_.fetch_sub(1, std::memory_order_relaxed);
}

BusErrorGuard::BusErrorGuard(void* address, size_t size_bytes, std::shared_ptr<GuardShare> share)
    : share_(std::move(share)) {
  static std::once_flag installed;
  std::call_once(installed, [] {
    struct sigaction action {};
    action.sa_sigaction = OnSignal;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGBUS, &action, nullptr);
  });
  slot_ = TakeSlot();
  if (!armed()) return;
  Slot& slot = slots[slot_];
  auto begin = reinterpret_cast<uintptr_t>(address);
  slot.broken.store(false, std::memory_order_relaxed);
  slot.begin.store(begin, std::memory_order_release);
  slot.end.store(begin + size_bytes, std::memory_order_release);
}

BusErrorGuard::~BusErrorGuard() {
  if (armed()) FreeSlot();
}

bool BusErrorGuard::broken() const {
  return armed() && slots[slot_].broken.load(std::memory_order_acquire);
}

}  // namespace sma::storage_target::virtio
