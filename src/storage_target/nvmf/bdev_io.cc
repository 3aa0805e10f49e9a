// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/bdev_io.h"

#include <utility>

#include "storage_target/nvmf/queue_pair.h"

namespace sma::storage_target::nvmf {

using bdev::IoStatus;
using bdev::IoType;
using nvme::Status;

Status StatusOf(IoStatus status, IoType type) {
  switch (status) {
    case IoStatus::kOk:
      return Status::kSuccess;
    case IoStatus::kFailed:
      if (type == IoType::kRead || type == IoType::kCompare) return Status::kUnrecoveredReadError;
      return type == IoType::kFlush ? Status::kInternalError : Status::kWriteFault;
    case IoStatus::kOutOfRange:
      return Status::kLbaOutOfRange;
    case IoStatus::kMiscompare:
      return Status::kCompareFailure;
    case IoStatus::kUnsupported:
      return Status::kInvalidOpcode;
    case IoStatus::kReadOnly:
      return Status::kNamespaceWriteProtected;
    case IoStatus::kNoSpace:
      return Status::kCapacityExceeded;
    case IoStatus::kGone:
      return Status::kInvalidNamespaceOrFormat;
    case IoStatus::kAborted:
      return Status::kAbortRequested;
  }
  return Status::kInternalError;
}

void BeginIo(NamespaceEntry& entry, Request& request) {
  request.entry = &entry;
  request.in_bdev = true;
  entry.Hold();
  request.queue_pair->BeginAsync();
}

void EndIo(Request& request, Status status) {
  NamespaceEntry* entry = std::exchange(request.entry, nullptr);
  request.in_bdev = false;
  request.queue_pair->CompleteAsync(request, status);
  entry->Release();
}

void FillIo(Request& request, const BdevIo& io, void (*done)(bdev::Io&, IoStatus)) {
  request.type = io.type;
  request.lba = io.lba;
  request.block_count = io.block_count;
  request.fua = io.fua;
  request.deallocate = io.deallocate;
  request.done = done;
}

void SubmitIo(NamespaceEntry& entry, Request& request, const BdevIo& io) {
  FillIo(request, io, [](bdev::Io& self, IoStatus status) {
    EndIo(static_cast<Request&>(self), StatusOf(status, self.type));
  });
  BeginIo(entry, request);
  entry.channel().Submit(request);
}

}  // namespace sma::storage_target::nvmf
