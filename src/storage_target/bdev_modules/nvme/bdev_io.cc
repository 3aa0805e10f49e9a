// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/bdev_io.h"

#include <algorithm>
#include <new>

#include "storage_target/bdev_modules/nvme/nvme_bdev.h"

namespace sma::storage_target::bdev_nvme {

using bdev::IoStatus;
using bdev::IoType;
using nvme::IoOpcode;
using nvme::Status;

namespace {

constexpr uint64_t kMaxBlocks = nvme::kNlbMask + 1;  // of one command, which has a 0's based count

IoOpcode OpcodeOf(IoType type) {
  switch (type) {
    case IoType::kRead:
      return IoOpcode::kRead;
    case IoType::kWrite:
      return IoOpcode::kWrite;
    case IoType::kFlush:
      return IoOpcode::kFlush;
    case IoType::kUnmap:
      return IoOpcode::kDatasetManagement;
    case IoType::kWriteZeroes:
      return IoOpcode::kWriteZeroes;
    case IoType::kCompare:
      return IoOpcode::kCompare;
  }
  return IoOpcode::kFlush;
}

bool MovesData(IoType type) {
  return type == IoType::kRead || type == IoType::kWrite || type == IoType::kCompare;
}

}  // namespace

NvmeIo& NvmeIo::Begin(bdev::Io& io, uint32_t nsid) {
  auto& self = *new (io.scratch.data()) NvmeIo;
  self.io = &io;
  self.done_blocks = 0;
  self.retries = 0;
  self.state = State::kWaiting;
  self.aborted = false;
  self.abort_asked = self.answered = false;
  self.command.opcode = static_cast<uint8_t>(OpcodeOf(io.type));
  self.command.nsid = nsid;
  if (MovesData(io.type)) {
    self.iovs = io.iovs;
    self.iov_count = io.iov_count;
  } else if (io.type == IoType::kUnmap) {
    self.range_iov = {&self.range, sizeof self.range};
    self.iovs = &self.range_iov;
    self.iov_count = 1;
    self.data_bytes = sizeof self.range;
    self.command.cdw10 = 0;  // the number of ranges, 0's based
    self.command.cdw11 = nvme::kDsmDeallocate;
  }
  return self;
}

NvmeIo& NvmeIo::Of(bdev::Io& io) {
  return *std::launder(reinterpret_cast<NvmeIo*>(io.scratch.data()));
}

NvmeChannel& NvmeIo::channel() const { return static_cast<NvmeChannel&>(*io->channel); }

void NvmeIo::MakeCommand(const IoLimits& limits, bool force_fua) {
  if (io->type == IoType::kFlush) return;
  uint64_t lba = io->lba + done_blocks;
  uint64_t blocks = std::min(io->block_count - done_blocks, MaxBlocks(limits));
  if (io->type == IoType::kUnmap) {
    range = {.attributes = 0, .block_count = static_cast<uint32_t>(blocks), .lba = lba};
    return;
  }
  command.set_lba(lba);
  bool writes = io->type == IoType::kWrite || io->type == IoType::kWriteZeroes;
  bool fua = io->fua || (force_fua && writes);
  command.cdw12 = static_cast<uint32_t>(blocks - 1) | (fua ? nvme::kFua : 0);
  if (MovesData(io->type)) data_bytes = static_cast<uint32_t>(blocks * block_size());
}

bool NvmeIo::Advance() {
  if (io->type == IoType::kFlush) return true;
  uint64_t blocks = chunk_blocks();
  done_blocks += blocks;
  if (done_blocks == io->block_count) return true;
  if (MovesData(io->type)) {
    iov_offset_bytes += blocks * block_size();
    while (iov_offset_bytes >= iovs->iov_len) {
      iov_offset_bytes -= iovs->iov_len;
      ++iovs;
      --iov_count;
    }
  }
  return false;
}

uint32_t NvmeIo::block_size() const { return io->channel->bdev().block_size(); }

uint64_t NvmeIo::MaxBlocks(const IoLimits& limits) const {
  if (io->type == IoType::kUnmap) return limits.unmap_blocks;
  uint64_t bytes =
      io->type == IoType::kWriteZeroes ? limits.write_zeroes_bytes : limits.transfer_bytes;
  return std::clamp<uint64_t>(bytes / block_size(), 1, kMaxBlocks);
}

uint64_t NvmeIo::chunk_blocks() const {
  if (io->type == IoType::kUnmap) return range.block_count;
  return (command.cdw12 & nvme::kNlbMask) + 1;
}

StatusAction ActionFor(uint16_t status) {
  constexpr unsigned kPathRelated = 3;  // a status code type (NVMe Base 2.0 §3.3.3.2.1)
  Status code = nvme::StatusOf(status);
  bool path_related = static_cast<unsigned>(code) >> 8 == kPathRelated;
  // DNR (Do Not Retry), if set, applies only to the same path.
  if (path_related && code != Status::kHostAborted) return StatusAction::kOtherPath;
  if (code == Status::kAbortedSqDeletion) return StatusAction::kOtherPath;
  if (nvme::DoNotRetry(status)) return StatusAction::kComplete;
  switch (code) {
    case Status::kSuccess:
    case Status::kInvalidOpcode:
    case Status::kInvalidField:
    case Status::kAbortRequested:
    case Status::kInvalidNamespaceOrFormat:
    case Status::kNamespaceWriteProtected:
    case Status::kLbaOutOfRange:
    case Status::kCapacityExceeded:
    case Status::kReservationConflict:
    case Status::kCompareFailure:
    case Status::kAccessDenied:
    case Status::kWriteToReadOnlyRange:
    case Status::kHostAborted:
      return StatusAction::kComplete;
    default:
      return StatusAction::kRetry;
  }
}

bool IsAnaStatus(uint16_t status) {
  Status code = nvme::StatusOf(status);
  return code == Status::kAnaPersistentLoss || code == Status::kAnaInaccessible ||
         code == Status::kAnaTransition;
}

IoStatus ToIoStatus(uint16_t status) {
  switch (nvme::StatusOf(status)) {
    case Status::kSuccess:
      return IoStatus::kOk;
    case Status::kLbaOutOfRange:
      return IoStatus::kOutOfRange;
    case Status::kCompareFailure:
      return IoStatus::kMiscompare;
    case Status::kInvalidOpcode:
      return IoStatus::kUnsupported;
    case Status::kNamespaceWriteProtected:
    case Status::kWriteToReadOnlyRange:
    case Status::kAccessDenied:
      return IoStatus::kReadOnly;
    case Status::kCapacityExceeded:
      return IoStatus::kNoSpace;
    case Status::kAbortRequested:
    case Status::kHostAborted:
      return IoStatus::kAborted;
    default:
      return IoStatus::kFailed;
  }
}

}  // namespace sma::storage_target::bdev_nvme
