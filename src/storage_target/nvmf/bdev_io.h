// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "storage_target/bdev/io.h"
#include "storage_target/nvme/status.h"
#include "storage_target/nvmf/namespace_table.h"
#include "storage_target/nvmf/request.h"

namespace sma::storage_target::nvmf {

/// The I/O of a command to its bdev; the data is in the request.
struct BdevIo {
  bdev::IoType type = bdev::IoType::kRead;
  uint64_t lba = 0;
  uint64_t block_count = 0;
  bool fua = false;
  bool deallocate = false;
};

nvme::Status StatusOf(bdev::IoStatus status, bdev::IoType type);

/// Submits a command to the bdev, whose completion completes the command.
void SubmitIo(NamespaceEntry& entry, Request& request, const BdevIo& io);

/// BeginIo holds the namespace for a command that submits I/O with its own `done` callback; EndIo
/// releases it and completes the command.
void BeginIo(NamespaceEntry& entry, Request& request);
void EndIo(Request& request, nvme::Status status);
/// Sets up the request's bdev I/O.
void FillIo(Request& request, const BdevIo& io, void (*done)(bdev::Io&, bdev::IoStatus));

}  // namespace sma::storage_target::nvmf
