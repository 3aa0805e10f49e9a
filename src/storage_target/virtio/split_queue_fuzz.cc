// SPDX-License-Identifier: Apache-2.0

// Fuzzes a split ring and indirect tables with arbitrary contents. Checks that every chain is
// either refused or lies completely within guest memory.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "harness/vhost_user/guest_ram.h"
#include "storage_target/virtio/guest_memory.h"
#include "storage_target/virtio/split_queue.h"

namespace {

using sma::harness::GuestRam;
using namespace sma::storage_target::virtio;

constexpr uint64_t kGuestAddress = 0x1000;
constexpr size_t kRegionBytes = 16 * 1024;
constexpr uint16_t kRingSize = 16;

// A guest with two adjacent memory regions, so that buffers may span them.
struct Guest {
  Guest() {
    for (const GuestRam* ram : {&low, &high}) {
      auto mapping = SharedMapping::Map(ram->fd(), 0, kRegionBytes);
      if (!mapping.ok()) std::abort();
      int error = memory.Add(
          {ram->guest_address(), kRegionBytes, ram->user_address(), *std::move(mapping)});
      if (error != 0) std::abort();
    }
  }
  GuestRam low{kRegionBytes, kGuestAddress, 0x10000};
  GuestRam high{kRegionBytes, kGuestAddress + kRegionBytes, 0x20000};
  GuestMemory memory;
};

void ReadChains(SplitQueue& queue, const GuestMemory& memory) {
  Chain chain;
  for (int round = 0; round < kRingSize; ++round) {
    std::optional<uint16_t> available = queue.AvailableCount();
    if (!available || *available == 0) return;
    if (*available > kRingSize) std::abort();
    const uint16_t head = queue.TakeHead();
    if (queue.ReadChain(head, memory, chain) != ChainError::kNone) continue;
    std::byte bytes[512] = {};
    CopyTo(chain.writable(), bytes);
    chain.TakeFront(bytes, std::min<uint64_t>(chain.readable_bytes(), sizeof bytes));
    if (uint8_t* status = chain.TakeLastByte()) *status = 1;
    queue.PushUsed(head, static_cast<uint32_t>(chain.writable_bytes()));
    queue.PublishUsed();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Guest& guest = *new Guest();
  if (size < 1) return 0;
  std::byte* memory = guest.low.At(kGuestAddress);
  std::memset(memory, 0, kRegionBytes);
  std::memcpy(memory, data + 1, std::min(size - 1, kRegionBytes));
  // The available ring is first in memory, so that small inputs reach it.
  SplitRing ring{.size = kRingSize, .descriptors = nullptr, .available = nullptr, .used = nullptr};
  ring.available = reinterpret_cast<uint16_t*>(memory);
  ring.descriptors = reinterpret_cast<Descriptor*>(memory + 64);
  ring.used = reinterpret_cast<uint16_t*>(
      memory + 64 + sma::storage_target::virtio::SplitRing::DescriptorBytes(kRingSize));
  SplitQueue queue({.ring = ring,
                    .next_available = 0,
                    .event_index = (data[0] & 1) != 0,
                    .indirect = (data[0] & 2) != 0});
  ReadChains(queue, guest.memory);
  return 0;
}
