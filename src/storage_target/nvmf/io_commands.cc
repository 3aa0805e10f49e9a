// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/io_commands.h"

#include <algorithm>

#include "storage_target/bdev/medium_copy.h"
#include "storage_target/nvmf/bdev_io.h"
#include "storage_target/nvmf/dataset_management.h"
#include "storage_target/nvmf/queue_pair.h"

namespace sma::storage_target::nvmf {
namespace {

using bdev::IoType;
using nvme::IoOpcode;
using nvme::Status;

// Blocks larger than this are not read in place: a transport that sends part of a block must be
// able to copy the rest (in NVMe/TCP, each request has a slot of at least one page).
constexpr uint8_t kMaxInPlaceBlockShift = 12;

// The write zeroes limit is in units of the CAP.MPSMIN page size.

uint32_t BlockCount(const nvme::Command& command) { return (command.cdw12 & nvme::kNlbMask) + 1; }

bool ChangesData(const nvme::Command& command) {
  switch (static_cast<IoOpcode>(command.opcode)) {
    case IoOpcode::kWrite:
    case IoOpcode::kWriteZeroes:
    case IoOpcode::kDatasetManagement:
      return true;
    default:
      return false;
  }
}

bool MustBeDurable(QueuePair& queue_pair, const Request& request) {
  return (request.command.cdw12 & nvme::kFua) != 0 ||
         !queue_pair.controller().write_cache_enabled();
}

BdevIo IoOf(IoType type, const Request& request) {
  return {.type = type, .lba = request.command.lba(), .block_count = BlockCount(request.command)};
}

void Read(QueuePair& queue_pair, NamespaceEntry& entry, Request& request) {
  BdevIo io = IoOf(IoType::kRead, request);
  if (queue_pair.reads_in_place() && !request.needs_buffer &&
      entry.info().block_shift <= kMaxInPlaceBlockShift) {
    if (const std::byte* blocks = entry.channel().ReadInPlace(io.lba, io.block_count)) {
      request.in_place = {const_cast<std::byte*>(blocks), request.data_size};
      request.iovs = &request.in_place;
      request.iov_count = 1;
      request.entry =
          &entry;  // the blocks must stay valid until they are sent: see QueuePair::ReleaseData
      entry.Hold();
      return queue_pair.Complete(request, Status::kSuccess);
    }
  }
  if (queue_pair.AcquireBuffer(request)) SubmitIo(entry, request, io);
}

void Write(QueuePair& queue_pair, NamespaceEntry& entry, Request& request) {
  BdevIo io = IoOf(IoType::kWrite, request);
  if (std::byte* blocks = entry.channel().WriteInPlace(io.lba, io.block_count)) {
    size_t left = request.data_size;
    for (uint32_t i = 0; i < request.iov_count; ++i) {
      const iovec& piece = request.iovs[i];
      size_t size = std::min(piece.iov_len, left);
      bdev::CopyToMedium(blocks, static_cast<const std::byte*>(piece.iov_base), size);
      blocks += size;
      left -= size;
    }
    bdev::OrderMediumCopies();
    return queue_pair.Complete(request, Status::kSuccess);
  }
  if (request.data_borrowed) queue_pair.KeepData(request);
  io.fua = MustBeDurable(queue_pair, request);
  SubmitIo(entry, request, io);
}

void Compare(QueuePair& queue_pair, NamespaceEntry& entry, Request& request) {
  if (request.data_borrowed) queue_pair.KeepData(request);
  SubmitIo(entry, request, IoOf(IoType::kCompare, request));
}

void WriteZeroes(QueuePair& queue_pair, NamespaceEntry& entry, Request& request) {
  BdevIo io = IoOf(IoType::kWriteZeroes, request);
  uint8_t limit = queue_pair.controller().subsystem().write_zeroes_limit;
  if (limit != 0 && io.block_count << entry.info().block_shift > uint64_t{nvme::kMinPageSize}
                                                                     << limit) {
    return queue_pair.Complete(request, Status::kInvalidField);
  }
  io.deallocate = (request.command.cdw12 & nvme::kDeac) != 0;
  io.fua = MustBeDurable(queue_pair, request);
  SubmitIo(entry, request, io);
}

}  // namespace

Status StartIo(const QueuePair& queue_pair, Request& request, uint32_t& size_bytes) {
  const nvme::Command& command = request.command;
  if ((command.flags & nvme::kFuseMask) != 0) return Status::kInvalidField;
  NamespaceEntry* entry = queue_pair.namespaces().Find(command.nsid);
  if (entry == nullptr) return Status::kInvalidNamespaceOrFormat;
  request.namespace_serial = entry->serial();
  switch (static_cast<IoOpcode>(command.opcode)) {
    case IoOpcode::kRead:
    case IoOpcode::kWrite:
    case IoOpcode::kCompare: {
      uint64_t size = uint64_t{BlockCount(command)} << entry->info().block_shift;
      if (size > queue_pair.limits().max_io_size) return Status::kInvalidField;
      size_bytes = static_cast<uint32_t>(size);
      return Status::kSuccess;
    }
    case IoOpcode::kDatasetManagement:
      size_bytes = DatasetManagementSize(command);
      return Status::kSuccess;
    case IoOpcode::kFlush:
    case IoOpcode::kWriteZeroes:
      size_bytes = 0;
      return Status::kSuccess;
    default:
      return Status::kInvalidOpcode;
  }
}

void ExecuteIo(QueuePair& queue_pair, Request& request) {
  // The namespace may have been removed and its NSID reused while data were being received from the
  // host.
  NamespaceEntry* found = queue_pair.namespaces().Find(request.command.nsid);
  if (found == nullptr || found->serial() != request.namespace_serial)
    return queue_pair.Complete(request, Status::kInvalidNamespaceOrFormat);
  NamespaceEntry& entry = *found;
  if (queue_pair.controller().host_may_have_late_io() && ChangesData(request.command))
    return queue_pair.Hold(request);
  switch (static_cast<IoOpcode>(request.command.opcode)) {
    case IoOpcode::kRead:
      return Read(queue_pair, entry, request);
    case IoOpcode::kWrite:
      return Write(queue_pair, entry, request);
    case IoOpcode::kCompare:
      return Compare(queue_pair, entry, request);
    case IoOpcode::kDatasetManagement:
      return ExecuteDatasetManagement(queue_pair, entry, request);
    case IoOpcode::kWriteZeroes:
      return WriteZeroes(queue_pair, entry, request);
    case IoOpcode::kFlush:
      return SubmitIo(entry, request, {.type = IoType::kFlush});
    default:
      return queue_pair.Complete(request, Status::kInvalidOpcode);
  }
}

}  // namespace sma::storage_target::nvmf
