#include "target/virtio/bus_error_guard.h"

#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <mutex>

namespace sma::target::virtio {
namespace {

// Read by the handler without a lock: `begin` is written before `end`, and a slot with `end` 0 is
// passed over.
struct Slot {
  std::atomic<bool> taken{false};
  std::atomic<bool> broken{false};
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
};

std::array<Slot, BusErrorGuard::kMaxGuards> slots;
std::atomic<size_t> used_slots{0};  // those from here on were never taken

// Puts zeroes in place of the guarded mapping that `address` belongs to. Async-signal-safe.
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

size_t TakeSlot() {
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].taken.exchange(true, std::memory_order_acquire)) continue;
    size_t used = used_slots.load(std::memory_order_relaxed);
    while (used <= i && !used_slots.compare_exchange_weak(used, i + 1, std::memory_order_release)) {
    }
    return i;
  }
  return BusErrorGuard::kMaxGuards;
}

}  // namespace

// A fault that no guard knows ends the program as it would have without this: the instruction is
// repeated with the default action.
void BusErrorGuard::OnSignal(int signal, siginfo_t* info, void* /*context*/) {
  if (ReplaceMapping(reinterpret_cast<uintptr_t>(info->si_addr))) {
    broken_count_.fetch_add(1, std::memory_order_release);
    return;
  }
  ::signal(signal, SIG_DFL);
}

BusErrorGuard::BusErrorGuard(void* address, size_t size_bytes) {
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
}

bool BusErrorGuard::broken() const {
  return armed() && slots[slot_].broken.load(std::memory_order_acquire);
}

}  // namespace sma::target::virtio
