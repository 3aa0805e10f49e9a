// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "harness/vfio_user/client.h"
#include "storage_target/nvme/command.h"
#include "storage_target/nvme/property.h"

namespace sma::harness {

namespace nvme = storage_target::nvme;

/// A submission queue and its completion queue in a guest's memory, used as a driver would use
/// them.
class NvmeQueue {
 public:
  /// Allocates guest memory for queues of these sizes.
  NvmeQueue(GuestRam& ram, uint16_t id, uint32_t sq_size, uint32_t cq_size);

  uint16_t id() const { return id_; }
  uint32_t sq_size() const { return sq_size_; }
  uint32_t cq_size() const { return cq_size_; }
  uint64_t sq_address() const { return sq_.guest_address; }
  uint64_t cq_address() const { return cq_.guest_address; }

  /// Appends a command to the ring and returns the id that it was given. The caller writes the
  /// doorbell.
  uint16_t Push(nvme::Command command);
  uint32_t tail() const { return tail_; }
  uint32_t head() const { return head_; }
  /// Returns the next completion, if there is one, and advances the head; the caller writes the
  /// doorbell.
  std::optional<nvme::Completion> Poll();
  /// Resets both rings to their initial state.
  void Clear();

 private:
  const uint16_t id_;
  const uint32_t sq_size_;
  const uint32_t cq_size_;
  GuestBuffer sq_;
  GuestBuffer cq_;
  uint32_t tail_ = 0;
  uint32_t head_ = 0;
  uint16_t phase_ = 1;
  uint16_t next_cid_ = 0;
};

/// Drives an NVMe controller through a vfio-user client: registers are accessed with messages, and
/// queues are in shared memory. Timeouts are reported as nullopt or false.
class NvmeDriver {
 public:
  NvmeDriver(VfioUserClient& client, GuestRam& ram) : client_(client), ram_(ram) {}

  static constexpr uint32_t kBar0 = 0;
  static constexpr uint32_t kEnableBits = nvme::kCcEnable |
                                          nvme::kSqEntryShift << nvme::kCcIosqesShift |
                                          nvme::kCqEntryShift << nvme::kCcIocqesShift;

  uint32_t Read(nvme::Property property) {
    return client_.Read<uint32_t>(kBar0, static_cast<uint64_t>(property));
  }
  int Write(nvme::Property property, uint32_t value) {
    return client_.Write(kBar0, static_cast<uint64_t>(property), value);
  }
  /// Waits until the bits `mask` of CSTS have this value.
  bool WaitStatus(uint32_t mask, uint32_t value);

  /// Sets up the admin queue and enables the controller; returns true if it becomes ready.
  bool Enable(uint32_t admin_size = 32);
  bool Disable();

  /// Runs an admin command and returns its completion.
  std::optional<nvme::Completion> Admin(const nvme::Command& command);
  nvme::Status AdminStatus(const nvme::Command& command);
  NvmeQueue& admin() { return *admin_; }

  nvme::Status CreateCq(const NvmeQueue& queue, uint16_t vector = 0, bool interrupts = false);
  nvme::Status CreateSq(const NvmeQueue& queue, uint16_t cq_id);
  /// Creates both the submission and the completion queue.
  bool Create(const NvmeQueue& queue, uint16_t vector = 0, bool interrupts = false);
  nvme::Status Delete(nvme::AdminOpcode opcode, uint16_t id);
  /// Sends Doorbell Buffer Config, which applies to queues created later.
  bool UseShadowDoorbells();
  /// Writes doorbells to the mapped page instead of sending messages.
  void UseMappedDoorbells(uint32_t* page) { mapped_ = page; }

  /// Write the doorbell of the queue's tail or head.
  void RingTail(const NvmeQueue& queue);
  void RingHead(const NvmeQueue& queue);
  /// Returns the next completion of a queue and writes the doorbell of its head.
  std::optional<nvme::Completion> Wait(NvmeQueue& queue);
  /// Runs one command and returns its status.
  nvme::Status Run(NvmeQueue& queue, const nvme::Command& command);

  /// With shadow doorbells: returns the doorbell value after which the controller requests a
  /// notification. `index` is 2 * queue id for a tail, one more for a head.
  uint32_t event_index(uint32_t index) const;
  /// Returns the number of messages sent for doorbells.
  uint64_t doorbell_messages() const { return doorbell_messages_; }

 private:
  void Ring(uint32_t index, uint32_t value);

  VfioUserClient& client_;
  GuestRam& ram_;
  std::unique_ptr<NvmeQueue> admin_;
  uint32_t* mapped_ = nullptr;
  std::optional<GuestBuffer> shadow_;
  std::optional<GuestBuffer> events_;
  std::vector<uint32_t> last_rung_ = std::vector<uint32_t>(1024);
  uint64_t doorbell_messages_ = 0;
};

/// Returns a Read or Write command for blocks, without a data pointer.
nvme::Command IoCommand(nvme::IoOpcode opcode, uint64_t lba, uint32_t block_count,
                        uint32_t nsid = 1);
/// Sets a command's PRPs to pages of guest memory, each complete except possibly the first, which
/// may start at an offset; `list` is the memory for the PRP list if one is needed.
void SetPrps(nvme::Command& command, std::span<const uint64_t> pages, const GuestBuffer& list);

}  // namespace sma::harness
