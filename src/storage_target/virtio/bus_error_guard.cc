// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/bus_error_guard.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

namespace sma::storage_target::virtio {
namespace {

// Read by the signal handler without a lock: `begin` is written before `end`, and a slot whose
// `end` is 0 is skipped.
struct Slot {
  std::atomic<bool> taken{false};
  std::atomic<bool> broken{false};
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
};

std::array<Slot, BusErrorGuard::kMaxGuards> slots;
std::atomic<size_t> used_slots{0};  // slots from this index on have never been used
std::atomic<size_t> first_free{0};  // a hint: slots before this one are probably taken
std::atomic<size_t> guard_count{0};

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
    const uintptr_t begin = slot.begin.load(std::memory_order_relaxed);
    if (address < begin || address >= end) continue;
    void* zeroes = ::mmap(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (zeroes == MAP_FAILED) return false;
    slot.broken.store(true, std::memory_order_release);
    return true;
  }
  return false;
}

size_t FindSlotFrom(size_t begin) {
  for (size_t i = begin; i < slots.size(); ++i) {
    if (slots[i].taken.load(std::memory_order_relaxed) ||
        slots[i].taken.exchange(true, std::memory_order_acquire))
      continue;
    first_free.store(i + 1, std::memory_order_relaxed);
    size_t used = used_slots.load(std::memory_order_relaxed);
    while (used <= i && !used_slots.compare_exchange_weak(used, i + 1, std::memory_order_release)) {
    }
    return i;
  }
  return BusErrorGuard::kMaxGuards;
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

// Returns kMaxGuards if there is none. Other threads may take slots at the same time, so a share
// may be exceeded by as many as there are threads.
size_t BusErrorGuard::TakeSlot() {
  if (share_ && !share_->MayTake(guard_count.load(std::memory_order_relaxed))) return kMaxGuards;
  size_t slot = FindSlotFrom(first_free.load(std::memory_order_relaxed));
  if (slot == kMaxGuards) slot = FindSlotFrom(0);
  if (slot == kMaxGuards) return slot;
  guard_count.fetch_add(1, std::memory_order_relaxed);
  if (share_) share_->used_.fetch_add(1, std::memory_order_relaxed);
  return slot;
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
  slot.begin.store(begin, std::memory_order_relaxed);
  slot.end.store(begin + size_bytes, std::memory_order_release);
}

BusErrorGuard::~BusErrorGuard() {
  if (!armed()) return;
  slots[slot_].end.store(0, std::memory_order_release);
  slots[slot_].taken.store(false, std::memory_order_release);
  if (slot_ < first_free.load(std::memory_order_relaxed))
    first_free.store(slot_, std::memory_order_relaxed);
  guard_count.fetch_sub(1, std::memory_order_relaxed);
  if (share_) share_->used_.fetch_sub(1, std::memory_order_relaxed);
}

bool BusErrorGuard::broken() const {
  return armed() && slots[slot_].broken.load(std::memory_order_acquire);
}

}  // namespace sma::storage_target::virtio
