// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/dataset_management.h"

#include <algorithm>
#include <cstring>

#include "storage_target/bdev/bdev.h"
#include "storage_target/nvmf/bdev_io.h"
#include "storage_target/nvmf/queue_pair.h"

namespace sma::storage_target::nvmf {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using nvme::Status;

uint32_t RangeCount(const nvme::Command& command) { return (command.cdw10 & 0xff) + 1; }

nvme::DsmRange RangeAt(const Request& request, uint32_t index) {
  nvme::DsmRange range;
  auto* out = reinterpret_cast<std::byte*>(&range);
  size_t skip = index * sizeof range;
  size_t missing = sizeof range;
  for (uint32_t i = 0; i < request.iov_count && missing > 0; ++i) {
    const iovec& piece = request.iovs[i];
    if (skip >= piece.iov_len) {
      skip -= piece.iov_len;
      continue;
    }
    size_t count = std::min(missing, piece.iov_len - skip);
    std::memcpy(out, static_cast<const std::byte*>(piece.iov_base) + skip, count);
    out += count;
    missing -= count;
    skip = 0;
  }
  return range;
}

Status CheckRanges(const SubsystemOptions& subsystem, NamespaceEntry& entry,
                   const Request& request) {
  uint64_t size = entry.channel().bdev().block_count();
  uint32_t limit = subsystem.dsm_range_size_limit;
  for (uint32_t i = 0; i < RangeCount(request.command); ++i) {
    nvme::DsmRange range = RangeAt(request, i);
    if (limit != 0 && range.block_count > limit) return Status::kInvalidField;
    if (range.lba > size || range.block_count > size - range.lba) return Status::kLbaOutOfRange;
  }
  return Status::kSuccess;
}

void DeallocateNext(Request& request);

void RangeDone(bdev::Io& io, IoStatus status) {
  auto& request = static_cast<Request&>(io);
  if (status != IoStatus::kOk) request.dsm.status = StatusOf(status, IoType::kUnmap);
  request.dsm.answered = true;
  if (!request.dsm.submitting) DeallocateNext(request);
}

// A bdev may complete the I/O before Submit returns. In that case the loop continues; otherwise
// RangeDone calls this function again.
void DeallocateNext(Request& request) {
  Request::Dsm& dsm = request.dsm;
  bdev::Channel& channel = request.entry->channel();
  if (request.abort_requested && dsm.next_range < RangeCount(request.command))
    dsm.status = Status::kAbortRequested;
  while (dsm.status == Status::kSuccess && dsm.next_range < RangeCount(request.command)) {
    nvme::DsmRange range = RangeAt(request, dsm.next_range++);
    if (range.block_count == 0) continue;
    FillIo(request, {.type = IoType::kUnmap, .lba = range.lba, .block_count = range.block_count},
           RangeDone);
    dsm.answered = false;
    dsm.submitting = true;
    channel.Submit(request);
    dsm.submitting = false;
    if (!dsm.answered) return;
  }
  EndIo(request, dsm.status);
}

}  // namespace

uint32_t DatasetManagementSize(const nvme::Command& command) {
  return RangeCount(command) * static_cast<uint32_t>(sizeof(nvme::DsmRange));
}

void ExecuteDatasetManagement(QueuePair& queue_pair, NamespaceEntry& entry, Request& request) {
  Status status = CheckRanges(queue_pair.controller().subsystem(), entry, request);
  bool deallocate = (request.command.cdw11 & nvme::kDsmDeallocate) != 0;
  if (status != Status::kSuccess || !deallocate) return queue_pair.Complete(request, status);
  if (request.data_borrowed) queue_pair.KeepData(request);
  request.dsm = {};
  BeginIo(entry, request);
  DeallocateNext(request);
}

}  // namespace sma::storage_target::nvmf
