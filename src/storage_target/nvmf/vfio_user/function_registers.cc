// SPDX-License-Identifier: Apache-2.0

// Accesses to the configuration space and the BARs of NvmeFunction, and their effects.

#include <algorithm>
#include <cstring>
#include <utility>

#include "spdlog/spdlog.h"
#include "storage_target/nvme/property.h"
#include "storage_target/nvmf/vfio_user/nvme_function.h"

namespace sma::storage_target::nvmf::vfio_user {

using nvme::Property;
using storage_target::vfio_user::kBar0;
using storage_target::vfio_user::kBar4;
using storage_target::vfio_user::kConfigRegion;

namespace {

constexpr size_t kDword = sizeof(uint32_t);

// These functions read and write one half of a 64-bit register.
uint32_t Half(uint64_t value, bool upper) {
  return static_cast<uint32_t>(upper ? value >> 32 : value);
}
void SetHalf(uint64_t& value, bool upper, uint32_t half) {
  value =
      upper ? (value & 0xffffffff) | uint64_t{half} << 32 : (value & ~uint64_t{0xffffffff}) | half;
}

}  // namespace

storage_target::vfio_user::Region NvmeFunction::DescribeRegion(uint32_t index) const {
  switch (index) {
    case kBar0:
      return {.size_bytes = kBar0Bytes,
              .fd = doorbells_.fd(),
              .mappable_offset_bytes = nvme::kDoorbellOffset,
              .mappable_bytes = Doorbells::kRegisterBytes};
    case kBar4:
      return {.size_bytes = kBar4Bytes};
    case kConfigRegion:
      return {.size_bytes = storage_target::vfio_user::PciConfig::kSizeBytes};
    default:
      return {};
  }
}

bool NvmeFunction::ReadRegion(uint32_t index, uint64_t offset, std::span<std::byte> out) {
  if (index == kConfigRegion) return config_.Read(offset, out);
  if (index == kBar0) return ReadRegister(offset, out);
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t at = offset + i;
    out[i] = std::byte{0};
    if (at < msix_table_.size()) {
      out[i] = msix_table_[at];
    } else if (at >= kPbaOffset) {
      for (uint32_t bit = 0; bit < 8; ++bit) {
        const uint64_t vector = (at - kPbaOffset) * 8 + bit;
        if (vector < interrupts_.vector_count() &&
            interrupts_.pending(static_cast<uint32_t>(vector)))
          out[i] |= std::byte{1} << bit;
      }
    }
  }
  return true;
}

bool NvmeFunction::WriteRegion(uint32_t index, uint64_t offset, std::span<const std::byte> data) {
  if (index == kConfigRegion) {
    if (!config_.Write(offset, data)) return false;
    OnConfigWritten();
    return true;
  }
  if (index == kBar0)
    return offset >= nvme::kDoorbellOffset ? WriteDoorbell(offset, data)
                                           : WriteRegister(offset, data);
  for (size_t i = 0; i < data.size(); ++i) {
    if (offset + i < msix_table_.size()) msix_table_[offset + i] = data[i];
  }
  return true;
}

void NvmeFunction::OnConfigWritten() {
  interrupts_.DisableIntx(config_.intx_disabled());
  interrupts_.MaskAll(config_.msix_enabled() && config_.all_vectors_masked());
  if (config_.TakeResetRequest()) Reset([] {});
}

// Registers are accessed in whole dwords (NVMe Base 2.0 §3.1.3).
bool NvmeFunction::ReadRegister(uint64_t offset, std::span<std::byte> out) const {
  if (offset % kDword != 0 || out.size() % kDword != 0) return false;
  for (size_t i = 0; i < out.size(); i += kDword) {
    uint32_t value = 0;
    const uint64_t at = offset + i;
    const bool upper = at % sizeof(uint64_t) != 0;
    switch (static_cast<Property>(upper ? at - kDword : at)) {
      case Property::kCap:
        value = Half(cap_, upper);
        break;
      case Property::kVs:  // and INTMS
        value = upper ? intms_ : nvme::MakeVersion(1, 4);
        break;
      case Property::kIntmc:  // and CC
        value = upper ? cc_ : intms_;
        break;
      case Property::kAsq:
        value = Half(asq_, upper);
        break;
      case Property::kAcq:
        value = Half(acq_, upper);
        break;
      default:
        if (at == static_cast<uint64_t>(Property::kCsts)) value = csts_;
        if (at == static_cast<uint64_t>(Property::kAqa)) value = aqa_;
    }
    std::memcpy(&out[i], &value, sizeof value);
  }
  return true;
}

bool NvmeFunction::WriteRegister(uint64_t offset, std::span<const std::byte> data) {
  if (offset % kDword != 0 || data.size() % kDword != 0 || data.size() > sizeof(uint64_t))
    return false;
  const bool enabled = (cc_ & nvme::kCcEnable) != 0;
  for (size_t i = 0; i < data.size(); i += kDword) {
    uint32_t value;
    std::memcpy(&value, &data[i], sizeof value);
    const uint64_t at = offset + i;
    const bool upper = at % sizeof(uint64_t) != 0;
    switch (static_cast<Property>(at)) {
      case Property::kIntms:
        intms_ |= value;
        UpdateIntx();
        continue;
      case Property::kIntmc:
        intms_ &= ~value;
        UpdateIntx();
        continue;
      case Property::kCc:
        WriteConfiguration(value);
        continue;
      case Property::kAqa:
        if (!enabled) aqa_ = value;
        continue;
      default:
        break;
    }
    const auto whole = static_cast<Property>(upper ? at - kDword : at);
    if (whole == Property::kAsq && !enabled) SetHalf(asq_, upper, value);
    if (whole == Property::kAcq && !enabled) SetHalf(acq_, upper, value);
  }
  return true;
}

bool NvmeFunction::WriteDoorbell(uint64_t offset, std::span<const std::byte> data) {
  if (offset % kDword != 0 || data.size() != kDword) return false;
  uint32_t value;
  std::memcpy(&value, data.data(), sizeof value);
  const auto index = static_cast<uint32_t>((offset - nvme::kDoorbellOffset) / kDword);
  doorbells_.Write(index, value);
  const auto id = static_cast<uint16_t>(index / 2);
  if (index % 2 == 0) {
    PollOnEvent();
  } else if (CompletionQueue* queue = FindCompletionQueue(id); queue != nullptr) {
    if (!queue->SetHead(doorbells_.CqHead(id)))
      Fail("a doorbell value beyond the end of the completion queue");
    UpdateIntx();
    if (queue->waiting() != nullptr) ScheduleFlush();
  }
  return true;
}

void NvmeFunction::WriteConfiguration(uint32_t value) {
  const uint32_t before = std::exchange(cc_, value);
  const bool was_enabled = (before & nvme::kCcEnable) != 0;
  const bool enabled = (value & nvme::kCcEnable) != 0;
  if (enabled && !was_enabled) {
    if (state_ == State::kDisabled) Enable();
  } else if (!enabled && was_enabled) {
    if (state_ != State::kStopping) Stop();
  } else if (nvme::CcShn(value) != 0 && nvme::CcShn(before) == 0) {
    ShutDown();
  }
}

void NvmeFunction::Enable() {
  state_ = State::kEnabling;
  const uint32_t sq_size = (aqa_ & 0xfff) + 1;
  const uint32_t cq_size = (aqa_ >> 16 & 0xfff) + 1;
  if (sq_size < 2 || cq_size < 2 || asq_ % nvme::kMinPageSize != 0 ||
      acq_ % nvme::kMinPageSize != 0) {
    return Fail("the admin queue's registers are invalid");
  }
  if (FindRing(asq_, sq_size * sizeof(nvme::Command), DmaAccessMode::kRead) == nullptr ||
      FindRing(acq_, cq_size * sizeof(nvme::Completion), DmaAccessMode::kWrite) == nullptr) {
    return Fail("the admin queue is not in memory that the host shares");
  }
  auto& completions = completion_queues_[0];
  completions = std::make_unique<CompletionQueue>(
      CompletionQueue::Options{.id = 0, .size = cq_size, .address = acq_, .interrupts = true});
  auto& commands = submission_queues_[0];
  commands = std::make_unique<SubmissionQueue>(
      *this, *completions, SubmissionQueue::Options{.id = 0, .size = sq_size, .address = asq_});
  FindRings();
  commands->Connect({.subsystem_nqn = subsystem_nqn_, .host_id = host_id_},
                    [this](nvme::Status status) { OnAdminConnected(status); });
}

void NvmeFunction::OnAdminConnected(nvme::Status status) {
  if (status == nvme::Status::kSuccess) {
    Controller& controller = submission_queues_[0]->controller();
    const uint32_t cc = cc_ & ~(3u << nvme::kCcShnShift);
    status = controller.WriteProperty(static_cast<uint32_t>(Property::kCc), sizeof cc, cc);
  }
  if (status != nvme::Status::kSuccess) {
    return Fail(fmt::format("the subsystem refused the admin queue, status {:#x}",
                            static_cast<int>(status)));
  }
  state_ = State::kReady;
  csts_ = nvme::kCstsReady;
  // Doorbells may already have been written.
  PollOnEvent();
}

// Disconnects all queues, so that no more completions are posted.
void NvmeFunction::Stop() {
  state_ = State::kStopping;
  EndPolling();
  for (auto& [id, queue] : submission_queues_) queue->Disconnect();
  if (submission_queues_.empty()) OnStopped();
}

void NvmeFunction::OnStopped() {
  CheckPaused();
  EndPolling();
  ending_.clear();
  completion_queues_.clear();
  doorbells_.Clear();
  shadow_address_ = event_index_address_ = 0;
  moderation_.Reset();
  interrupts_.SetIntx(false);
  csts_ = 0;
  failed_ = false;
  state_ = State::kDisabled;
  for (auto& done : std::exchange(when_reset_, {})) done();
  if ((cc_ & nvme::kCcEnable) != 0 && state_ == State::kDisabled) Enable();
}

void NvmeFunction::Reset(std::function<void()> done) {
  when_reset_.push_back(std::move(done));
  ClearRegisters();
  if (state_ == State::kDisabled) {
    OnStopped();
  } else if (state_ != State::kStopping) {
    Stop();
  }
}

void NvmeFunction::ClearRegisters() {
  config_.Reset();
  OnConfigWritten();
  cc_ = intms_ = aqa_ = 0;
  asq_ = acq_ = 0;
}

// Disconnects the I/O queues; the admin queue stays until the controller is disabled.
void NvmeFunction::ShutDown() {
  csts_ = (csts_ & ~nvme::kCstsShutdownMask) | nvme::kCstsShutdownOccurring;
  for (auto& [id, queue] : submission_queues_) {
    if (id != 0) queue->Disconnect();
  }
  CheckShutDown();
}

void NvmeFunction::CheckShutDown() {
  if ((csts_ & nvme::kCstsShutdownMask) != nvme::kCstsShutdownOccurring) return;
  for (const auto& [id, queue] : submission_queues_) {
    if (id != 0) return;
  }
  csts_ = (csts_ & ~nvme::kCstsShutdownMask) | nvme::kCstsShutdownComplete;
}

}  // namespace sma::storage_target::nvmf::vfio_user
