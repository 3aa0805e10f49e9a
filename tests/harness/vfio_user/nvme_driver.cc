// SPDX-License-Identifier: Apache-2.0

#include "harness/vfio_user/nvme_driver.h"

#include <atomic>
#include <cstring>
#include <thread>

#include "storage_target/virtio/shared_fields.h"

namespace sma::harness {

using nvme::AdminOpcode;
using nvme::Command;
using nvme::Completion;
using nvme::Property;
using nvme::Status;

namespace {

constexpr size_t kPage = nvme::kMinPageSize;

template <typename Condition>
bool WaitFor(Condition condition) {
  const auto until = std::chrono::steady_clock::now() + VfioUserClient::kTimeout;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

void SetPrp2(Command& command, uint64_t prp2) {
  std::memcpy(reinterpret_cast<std::byte*>(&command.sgl) + 8, &prp2, sizeof prp2);
}

}  // namespace

NvmeQueue::NvmeQueue(GuestRam& ram, uint16_t id, uint32_t sq_size, uint32_t cq_size)
    : id_(id),
      sq_size_(sq_size),
      cq_size_(cq_size),
      sq_(ram.Allocate(sq_size * sizeof(Command), kPage)),
      cq_(ram.Allocate(cq_size * sizeof(Completion), kPage)) {}

uint16_t NvmeQueue::Push(Command command) {
  command.cid = next_cid_++;
  std::memcpy(sq_.bytes.data() + tail_ * sizeof command, &command, sizeof command);
  tail_ = (tail_ + 1) % sq_size_;
  return command.cid;
}

std::optional<Completion> NvmeQueue::Poll() {
  std::byte* entry = cq_.bytes.data() + head_ * sizeof(Completion);
  auto& last = *reinterpret_cast<uint32_t*>(entry + 12);
  if ((storage_target::virtio::LoadAcquire(last) >> 16 & 1) != phase_) return std::nullopt;
  Completion completion;
  std::memcpy(&completion, entry, sizeof completion);
  head_ = (head_ + 1) % cq_size_;
  if (head_ == 0) phase_ ^= 1;
  return completion;
}

void NvmeQueue::Clear() {
  std::memset(sq_.bytes.data(), 0, sq_.bytes.size());
  std::memset(cq_.bytes.data(), 0, cq_.bytes.size());
  tail_ = head_ = 0;
  phase_ = 1;
}

bool NvmeDriver::WaitStatus(uint32_t mask, uint32_t value) {
  return WaitFor([&] { return (Read(Property::kCsts) & mask) == value; });
}

bool NvmeDriver::Enable(uint32_t admin_size) {
  if (!admin_ || admin_->sq_size() != admin_size) {
    admin_ = std::make_unique<NvmeQueue>(ram_, uint16_t{0}, admin_size, admin_size);
  } else {
    admin_->Clear();
  }
  shadow_.reset();
  events_.reset();
  Write(Property::kAqa, (admin_size - 1) << 16 | (admin_size - 1));
  client_.Write(kBar0, static_cast<uint64_t>(Property::kAsq), admin_->sq_address());
  client_.Write(kBar0, static_cast<uint64_t>(Property::kAcq), admin_->cq_address());
  Write(Property::kCc, kEnableBits);
  return WaitFor([&] { return Read(Property::kCsts) != 0; }) &&
         Read(Property::kCsts) == nvme::kCstsReady;
}

bool NvmeDriver::Disable() {
  Write(Property::kCc, 0);
  return WaitStatus(nvme::kCstsReady | nvme::kCstsFatal, 0);
}

// With shadow doorbells the register is written only if the controller has requested it.
void NvmeDriver::Ring(uint32_t index, uint32_t value) {
  const uint32_t old = std::exchange(last_rung_[index], value);
  if (shadow_ && index >= 2) {
    auto* shadow = reinterpret_cast<uint32_t*>(shadow_->bytes.data());
    auto* events = reinterpret_cast<uint32_t*>(events_->bytes.data());
    storage_target::virtio::StoreRelease(shadow[index], value);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const auto event = static_cast<uint16_t>(storage_target::virtio::LoadAcquire(events[index]));
    const auto passed = static_cast<uint16_t>(value - event - 1);
    if (passed >= static_cast<uint16_t>(value - old)) return;
  }
  if (mapped_ != nullptr) return storage_target::virtio::StoreRelease(mapped_[index], value);
  ++doorbell_messages_;
  client_.Post32(kBar0, nvme::kDoorbellOffset + index * 4, value);
}

uint32_t NvmeDriver::event_index(uint32_t index) const {
  return storage_target::virtio::LoadAcquire(
      reinterpret_cast<uint32_t*>(events_->bytes.data())[index]);
}

void NvmeDriver::RingTail(const NvmeQueue& queue) { Ring(queue.id() * 2u, queue.tail()); }
void NvmeDriver::RingHead(const NvmeQueue& queue) { Ring(queue.id() * 2u + 1, queue.head()); }

std::optional<Completion> NvmeDriver::Wait(NvmeQueue& queue) {
  std::optional<Completion> completion;
  const bool came = WaitFor([&] {
    client_.ServeRequests();
    return (completion = queue.Poll()).has_value();
  });
  if (!came) return std::nullopt;
  RingHead(queue);
  return completion;
}

Status NvmeDriver::Run(NvmeQueue& queue, const Command& command) {
  const uint16_t cid = queue.Push(command);
  RingTail(queue);
  auto completion = Wait(queue);
  const bool answered = completion && completion->cid == cid && completion->sq_id == queue.id();
  return answered ? nvme::StatusOf(completion->status) : Status::kHostPathingError;
}

std::optional<Completion> NvmeDriver::Admin(const Command& command) {
  admin_->Push(command);
  RingTail(*admin_);
  return Wait(*admin_);
}

Status NvmeDriver::AdminStatus(const Command& command) {
  auto completion = Admin(command);
  return completion ? nvme::StatusOf(completion->status) : Status::kHostPathingError;
}

Status NvmeDriver::CreateCq(const NvmeQueue& queue, uint16_t vector, bool interrupts) {
  last_rung_[queue.id() * 2u + 1] = 0;
  Command command;
  command.opcode = static_cast<uint8_t>(AdminOpcode::kCreateIoCq);
  command.sgl.address = queue.cq_address();
  command.cdw10 = (queue.cq_size() - 1) << 16 | queue.id();
  command.cdw11 = uint32_t{vector} << 16 | (interrupts ? 2u : 0u) | 1u;
  return AdminStatus(command);
}

Status NvmeDriver::CreateSq(const NvmeQueue& queue, uint16_t cq_id) {
  last_rung_[queue.id() * 2u] = 0;
  Command command;
  command.opcode = static_cast<uint8_t>(AdminOpcode::kCreateIoSq);
  command.sgl.address = queue.sq_address();
  command.cdw10 = (queue.sq_size() - 1) << 16 | queue.id();
  command.cdw11 = uint32_t{cq_id} << 16 | 1u;
  return AdminStatus(command);
}

bool NvmeDriver::Create(const NvmeQueue& queue, uint16_t vector, bool interrupts) {
  return CreateCq(queue, vector, interrupts) == Status::kSuccess &&
         CreateSq(queue, queue.id()) == Status::kSuccess;
}

Status NvmeDriver::Delete(AdminOpcode opcode, uint16_t id) {
  Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  command.cdw10 = id;
  return AdminStatus(command);
}

bool NvmeDriver::UseShadowDoorbells() {
  GuestBuffer shadow = ram_.Allocate(kPage, kPage);
  GuestBuffer events = ram_.Allocate(kPage, kPage);
  Command command;
  command.opcode = static_cast<uint8_t>(AdminOpcode::kDoorbellBufferConfig);
  command.sgl.address = shadow.guest_address;
  SetPrp2(command, events.guest_address);
  if (AdminStatus(command) != Status::kSuccess) return false;
  shadow_ = shadow;
  events_ = events;
  return true;
}

Command IoCommand(nvme::IoOpcode opcode, uint64_t lba, uint32_t block_count, uint32_t nsid) {
  Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  command.nsid = nsid;
  command.set_lba(lba);
  command.cdw12 = block_count - 1;
  return command;
}

void SetPrps(Command& command, std::span<const uint64_t> pages, const GuestBuffer& list) {
  command.flags = nvme::kPsdtPrp;
  command.sgl.address = pages[0];
  SetPrp2(command, pages.size() > 1 ? pages[1] : 0);
  if (pages.size() <= 2) return;
  SetPrp2(command, list.guest_address);
  std::memcpy(list.bytes.data(), &pages[1], (pages.size() - 1) * sizeof(uint64_t));
}

}  // namespace sma::harness
