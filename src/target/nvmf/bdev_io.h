#pragma once

#include <cstdint>

#include "target/bdev/io.h"
#include "target/nvme/status.h"
#include "target/nvmf/namespace_table.h"
#include "target/nvmf/request.h"

namespace sma::target::nvmf {

/// What a command asks of its bdev; data as the request has them.
struct BdevIo {
  bdev::IoType type = bdev::IoType::kRead;
  uint64_t lba = 0;
  uint64_t block_count = 0;
  bool fua = false;
  bool deallocate = false;
};

nvme::Status StatusOf(bdev::IoStatus status, bdev::IoType type);

/// Hands a command to the bdev; its answer completes the command.
void SubmitIo(NamespaceEntry& entry, Request& request, const BdevIo& io);

/// Keeps the namespace for a command that is going to submit I/O with `done`, and lets it go,
/// completing the command.
void BeginIo(NamespaceEntry& entry, Request& request);
void EndIo(Request& request, nvme::Status status);
/// Fills the bdev's part of the request in.
void FillIo(Request& request, const BdevIo& io, void (*done)(bdev::Io&, bdev::IoStatus));

}  // namespace sma::target::nvmf
