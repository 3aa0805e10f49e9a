#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "harness/vfio_user/client.h"
#include "target/nvme/command.h"
#include "target/nvme/property.h"

namespace sma::harness {

namespace nvme = target::nvme;

/// A submission queue and its completion queue in a guest's memory, as a driver works them.
class NvmeQueue {
 public:
  /// Memory of the guest's for queues of these sizes.
  NvmeQueue(GuestRam& ram, uint16_t id, uint32_t sq_size, uint32_t cq_size);

  uint16_t id() const { return id_; }
  uint32_t sq_size() const { return sq_size_; }
  uint32_t cq_size() const { return cq_size_; }
  uint64_t sq_address() const { return sq_.guest_address; }
  uint64_t cq_address() const { return cq_.guest_address; }

  /// Puts a command on the ring; the doorbell is the caller's. Gives it an id and returns that.
  uint16_t Push(nvme::Command command);
  uint32_t tail() const { return tail_; }
  uint32_t head() const { return head_; }
  /// The next completion, when there is one; the head moves on, its doorbell is the caller's.
  std::optional<nvme::Completion> Poll();
  /// Both rings as they were at first.
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

/// Drives an NVMe controller through a vfio-user client: registers by messages, queues in shared
/// memory. What does not come in time is nullopt or false.
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
  /// Waits until the bits of CSTS are so.
  bool WaitStatus(uint32_t mask, uint32_t value);

  /// Sets the admin queue up and enables the controller; true when it is ready.
  bool Enable(uint32_t admin_size = 32);
  bool Disable();

  /// Runs an admin command and waits for its completion.
  std::optional<nvme::Completion> Admin(const nvme::Command& command);
  nvme::Status AdminStatus(const nvme::Command& command);
  NvmeQueue& admin() { return *admin_; }

  nvme::Status CreateCq(const NvmeQueue& queue, uint16_t vector = 0, bool interrupts = false);
  nvme::Status CreateSq(const NvmeQueue& queue, uint16_t cq_id);
  /// Both of a queue.
  bool Create(const NvmeQueue& queue, uint16_t vector = 0, bool interrupts = false);
  nvme::Status Delete(nvme::AdminOpcode opcode, uint16_t id);
  /// Doorbell Buffer Config, for queues that are made afterwards.
  bool UseShadowDoorbells();
  /// Writes doorbells to the page that the client has mapped, instead of sending messages.
  void UseMappedDoorbells(uint32_t* page) { mapped_ = page; }

  /// Tells the controller of the queue's tail, or of its head.
  void RingTail(const NvmeQueue& queue);
  void RingHead(const NvmeQueue& queue);
  /// The next completion of a queue; its head is told.
  std::optional<nvme::Completion> Wait(NvmeQueue& queue);
  /// Runs one command and waits.
  nvme::Status Run(NvmeQueue& queue, const nvme::Command& command);

  /// With shadow doorbells: the value of a doorbell that the controller wants to be told of when it
  /// is passed. `index` is 2 * queue id for a tail, one more for a head.
  uint32_t event_index(uint32_t index) const;
  /// Messages that doorbells have cost so far.
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

/// A Read or Write of blocks, its data pointer unset.
nvme::Command IoCommand(nvme::IoOpcode opcode, uint64_t lba, uint32_t block_count,
                        uint32_t nsid = 1);
/// Points a command's PRPs to pages of guest memory, each whole but perhaps the first, which begins
/// at its address; `list` holds the PRP list if one is needed.
void SetPrps(nvme::Command& command, std::span<const uint64_t> pages, const GuestBuffer& list);

}  // namespace sma::harness
