// SPDX-License-Identifier: Apache-2.0

// Admin commands of NvmeFunction for queues in the host's memory and for their interrupts.

#include <utility>

#include "storage_target/nvme/property.h"
#include "storage_target/nvmf/vfio_user/data_pointer.h"
#include "storage_target/nvmf/vfio_user/nvme_function.h"

namespace sma::storage_target::nvmf::vfio_user {

using nvme::AdminOpcode;
using nvme::Command;
using nvme::Feature;
using nvme::Status;

namespace {

// Create I/O Submission Queue and Create I/O Completion Queue, NVMe Base 2.0 §5.4 and §5.5.
uint16_t QueueId(const Command& command) { return static_cast<uint16_t>(command.cdw10); }
uint32_t QueueSize(const Command& command) { return (command.cdw10 >> 16) + 1; }
uint16_t UpperHalf(uint32_t cdw11) { return static_cast<uint16_t>(cdw11 >> 16); }
constexpr uint32_t kContiguous = 1u << 0;
constexpr uint32_t kInterruptsEnabled = 1u << 1;

constexpr uint32_t kCoalescingDisabled = 1u << 16;  // Interrupt Vector Configuration
constexpr uint32_t kChangeable = 1u << 2;           // bit of FeatureSelect::kCapabilities

bool IsPageAligned(uint64_t address) { return address % nvme::kMinPageSize == 0; }

}  // namespace

CompletionQueue* NvmeFunction::FindCompletionQueue(uint16_t id) {
  auto at = completion_queues_.find(id);
  return at == completion_queues_.end() ? nullptr : at->second.get();
}

SubmissionQueue* NvmeFunction::FindSubmissionQueue(uint16_t id) {
  auto at = submission_queues_.find(id);
  return at == submission_queues_.end() ? nullptr : at->second.get();
}

bool NvmeFunction::ExecuteAdmin(SubmissionQueue& admin, MemoryRequest& request) {
  const Command& command = request.command;
  switch (static_cast<AdminOpcode>(command.opcode)) {
    case AdminOpcode::kCreateIoCq:
      admin.Finish(request, CreateCompletionQueue(command));
      return true;
    case AdminOpcode::kDeleteIoCq:
      admin.Finish(request, DeleteCompletionQueue(QueueId(command)));
      return true;
    case AdminOpcode::kCreateIoSq:
      CreateSubmissionQueue(admin, request);
      return true;
    case AdminOpcode::kDeleteIoSq:
      DeleteSubmissionQueue(admin, request);
      return true;
    case AdminOpcode::kDoorbellBufferConfig:
      admin.Finish(request, ConfigureDoorbellBuffer(command));
      return true;
    case AdminOpcode::kGetFeatures:
    case AdminOpcode::kSetFeatures:
      return ExecuteFeature(admin, request);
    default:
      return false;
  }
}

Status NvmeFunction::CheckNewQueue(const Command& command, bool exists) const {
  const uint16_t id = QueueId(command);
  const uint32_t limit = submission_queues_.at(0)->controller().io_queue_limit();
  if (id == 0 || id > limit || exists) return Status::kInvalidQueueIdentifier;
  if (QueueSize(command) < 2 || QueueSize(command) > limits().max_queue_depth)
    return Status::kInvalidQueueSize;
  if ((command.cdw11 & kContiguous) == 0) return Status::kInvalidField;
  return IsPageAligned(command.sgl.address) ? Status::kSuccess : Status::kInvalidPrpOffset;
}

Status NvmeFunction::CreateCompletionQueue(const Command& command) {
  const uint16_t id = QueueId(command);
  Status status = CheckNewQueue(command, FindCompletionQueue(id) != nullptr);
  if (status != Status::kSuccess) return status;
  const CompletionQueue::Options options{.id = id,
                                         .size = QueueSize(command),
                                         .address = command.sgl.address,
                                         .vector = UpperHalf(command.cdw11),
                                         .interrupts = (command.cdw11 & kInterruptsEnabled) != 0};
  if (options.vector >= interrupts_.vector_count()) return Status::kInvalidInterruptVector;
  auto queue = std::make_unique<CompletionQueue>(options);
  if (FindRing(options.address, queue->size_bytes(), DmaAccessMode::kWrite) == nullptr)
    return Status::kDataTransferError;
  completion_queues_[id] = std::move(queue);
  doorbells_.Reset(id * 2u + 1);
  FindRings();
  return Status::kSuccess;
}

Status NvmeFunction::DeleteCompletionQueue(uint16_t id) {
  CompletionQueue* queue = id == 0 ? nullptr : FindCompletionQueue(id);
  if (queue == nullptr) return Status::kInvalidQueueIdentifier;
  if (queue->submission_queue_count > 0) return Status::kInvalidQueueDeletion;
  completion_queues_.erase(id);
  return Status::kSuccess;
}

// The subsystem accepts the queue through a Connect command, like a queue of any other host.
void NvmeFunction::CreateSubmissionQueue(SubmissionQueue& admin, MemoryRequest& request) {
  const Command& command = request.command;
  const uint16_t id = QueueId(command);
  Status status = CheckNewQueue(command, FindSubmissionQueue(id) != nullptr);
  const uint16_t completion_id = UpperHalf(command.cdw11);
  CompletionQueue* completions = completion_id == 0 ? nullptr : FindCompletionQueue(completion_id);
  if (status == Status::kSuccess && completions == nullptr)
    status = Status::kCompletionQueueInvalid;
  const SubmissionQueue::Options options{
      .id = id, .size = QueueSize(command), .address = command.sgl.address};
  const uint64_t size_bytes = uint64_t{options.size} * sizeof(Command);
  if (status == Status::kSuccess &&
      FindRing(options.address, size_bytes, DmaAccessMode::kRead) == nullptr)
    status = Status::kDataTransferError;
  if (status != Status::kSuccess) return admin.Finish(request, status);

  doorbells_.Reset(id * 2u);
  auto& queue = submission_queues_[id];
  queue = std::make_unique<SubmissionQueue>(*this, *completions, options);
  FindRings();
  queue->Connect({.subsystem_nqn = subsystem_nqn_,
                  .host_id = host_id_,
                  .controller_id = admin.controller().id()},
                 [this, &admin, &request, queue = queue.get()](Status connected) {
                   if (connected == Status::kSuccess) return admin.Finish(request, connected);
                   ending_[queue->options().id] = {&request, Status::kInternalError};
                   // This is posted, because this function runs within the completion of the
                   // queue's Connect.
                   reactor_.Post([queue] { queue->Disconnect(); });
                 });
}

void NvmeFunction::DeleteSubmissionQueue(SubmissionQueue& admin, MemoryRequest& request) {
  const uint16_t id = QueueId(request.command);
  SubmissionQueue* queue = id == 0 ? nullptr : FindSubmissionQueue(id);
  if (queue == nullptr || queue->closed() || !queue->connected())
    return admin.Finish(request, Status::kInvalidQueueIdentifier);
  ending_[id] = {&request, Status::kSuccess};
  queue->Disconnect();
}

Status NvmeFunction::ConfigureDoorbellBuffer(const Command& command) {
  const uint64_t shadow = command.sgl.address;
  const uint64_t events = Prp2Of(command);
  if (!IsPageAligned(shadow) || !IsPageAligned(events)) return Status::kInvalidPrpOffset;
  if (shadow == 0 || events == 0) return Status::kInvalidField;
  if (FindRing(shadow, nvme::kMinPageSize, DmaAccessMode::kWrite) == nullptr ||
      FindRing(events, nvme::kMinPageSize, DmaAccessMode::kWrite) == nullptr)
    return Status::kDataTransferError;
  shadow_address_ = shadow;
  event_index_address_ = events;
  FindRings();
  for (const auto& [id, queue] : submission_queues_) doorbells_.CopyToShadow(id * 2u);
  for (const auto& [id, queue] : completion_queues_) doorbells_.CopyToShadow(id * 2u + 1);
  return Status::kSuccess;
}

// Handles the features that only functions with interrupts have.
bool NvmeFunction::ExecuteFeature(SubmissionQueue& admin, MemoryRequest& request) {
  const Command& command = request.command;
  const auto feature = static_cast<Feature>(command.cdw10 & 0xff);
  const bool per_vector = feature == Feature::kInterruptVectorConfig;
  if (!per_vector && feature != Feature::kInterruptCoalescing) return false;
  const uint32_t vector = per_vector ? command.cdw11 & 0xffff : 0;
  if (vector >= moderation_.vector_count()) {
    admin.Finish(request, Status::kInvalidField);
    return true;
  }
  if (static_cast<AdminOpcode>(command.opcode) == AdminOpcode::kSetFeatures) {
    const bool save = (command.cdw10 & nvme::kFeatureSave) != 0;
    if (!save && per_vector)
      moderation_.set_coalesced(vector, (command.cdw11 & kCoalescingDisabled) == 0);
    if (!save && !per_vector) moderation_.set_coalescing(command.cdw11);
    admin.Finish(request, save ? Status::kFeatureNotSaveable : Status::kSuccess);
    return true;
  }
  const auto select =
      static_cast<nvme::FeatureSelect>(command.cdw10 >> nvme::kFeatureSelectShift & 0x7);
  uint32_t value = per_vector ? vector : 0;  // the default
  if (select == nvme::FeatureSelect::kCapabilities) value = kChangeable;
  if (select == nvme::FeatureSelect::kCurrent) {
    value = per_vector ? vector | (moderation_.is_coalesced(vector) ? 0 : kCoalescingDisabled)
                       : moderation_.coalescing();
  }
  const bool known = select <= nvme::FeatureSelect::kCapabilities;
  admin.Finish(request, known ? Status::kSuccess : Status::kInvalidField, known ? value : 0);
  return true;
}

}  // namespace sma::storage_target::nvmf::vfio_user
