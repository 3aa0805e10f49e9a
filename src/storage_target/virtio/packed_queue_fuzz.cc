// SPDX-License-Identifier: Apache-2.0

// Fuzzes a packed ring and indirect tables with arbitrary contents. Checks that every chain is
// either refused or lies completely within guest memory. Some of the requests are completed; the
// others are passed to a second queue through the inflight region, which may also have arbitrary
// contents.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "harness/vhost_user/guest_ram.h"
#include "storage_target/virtio/guest_memory.h"
#include "storage_target/virtio/packed_inflight.h"
#include "storage_target/virtio/packed_queue.h"

namespace {

using sma::harness::GuestRam;
using namespace sma::storage_target::virtio;

constexpr uint64_t kGuestAddress = 0x1000;
constexpr size_t kRegionBytes = 16 * 1024;
constexpr uint16_t kRingSize = 13;
constexpr size_t kNoteBytes = 448;

struct Guest {
  Guest() {
    auto mapping = SharedMapping::Map(ram.fd(), 0, kRegionBytes);
    if (!mapping.ok()) std::abort();
    if (memory.Add({kGuestAddress, kRegionBytes, ram.user_address(), *std::move(mapping)}) != 0) {
      std::abort();
    }
  }
  GuestRam ram{kRegionBytes, kGuestAddress, 0x10000};
  GuestMemory memory;
};

void Use(Chain& chain) {
  std::byte bytes[512] = {};
  CopyTo(chain.writable(), bytes);
  chain.TakeFront(bytes, std::min<uint64_t>(chain.readable_bytes(), sizeof bytes));
  if (uint8_t* status = chain.TakeLastByte()) *status = 1;
}

// Takes requests until none is available or the ring is broken; completes every second one.
void Serve(PackedQueue& queue, PackedInflight& note, const GuestMemory& memory) {
  Chain chain;
  uint16_t unanswered = 0;
  for (int round = 0; round < 4 * kRingSize && queue.HasAvailable(); ++round) {
    uint16_t id = 0;
    if (queue.TakeChain(id) != ChainError::kNone) return;
    if (id >= kRingSize || queue.taken().size() > kRingSize) std::abort();
    note.Take(id, queue.taken());
    if (queue.ReadChain(memory, chain) == ChainError::kNone) Use(chain);
    if (round % 2 != 0) {
      ++unanswered;
      continue;
    }
    note.PrepareCompletion(id);
    queue.PushUsed(id, 1);
    note.BeginPublication(queue.next_used());
    queue.PublishUsed();
    note.CommitCompletions();
  }
  if (unanswered > kRingSize) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Guest& guest = *new Guest();
  if (size < 1) return 0;
  const uint8_t mode = data[0];
  std::byte* memory = guest.ram.At(kGuestAddress);
  std::memset(memory, 0, kRegionBytes);
  std::memcpy(memory, data + 1, std::min(size - 1, kRegionBytes));
  alignas(8) std::array<std::byte, kNoteBytes> region{};
  if ((mode & 4) != 0) {
    std::memcpy(region.data(), memory + 512, region.size());
    const uint16_t version = 1;
    std::memcpy(&region[8], &version, sizeof version);
    std::memcpy(&region[10], &kRingSize, sizeof kRingSize);
  }
  const PackedRing ring{.size = kRingSize,
                        .descriptors = reinterpret_cast<PackedDescriptor*>(memory + 16),
                        .driver_event = reinterpret_cast<uint32_t*>(memory),
                        .device_event = reinterpret_cast<uint32_t*>(memory + 4)};
  for (int life = 0; life < 3; ++life) {
    PackedInflight note(region, ring, {}, false);
    PackedQueue queue({.ring = ring,
                       .next_available = note.next_used(),
                       .next_used = note.next_used(),
                       .event_index = (mode & 1) != 0,
                       .indirect = (mode & 2) != 0});
    const std::vector<PackedInflight::Request> requests = note.TakeOutstanding();
    for (const auto& request : requests) queue.Restore(request.id, request.descriptors);
    Chain chain;
    for (const auto& request : requests) {
      queue.Retake(request.descriptors);
      if (queue.ReadChain(guest.memory, chain) == ChainError::kNone) Use(chain);
    }
    Serve(queue, note, guest.memory);
    queue.EnableNotifications();
  }
  return 0;
}
