// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "storage_target/nvme/command.h"
#include "storage_target/nvme/status.h"
#include "storage_target/nvmf/vfio_user/guest_pieces.h"
#include "storage_target/vfio_user/dma_map.h"

namespace sma::storage_target::nvmf::vfio_user {

using storage_target::vfio_user::DmaAccessMode;
using storage_target::vfio_user::DmaMap;

/// Returns PRP2 of a command that uses PRPs.
uint64_t Prp2Of(const nvme::Command& command);

/// Pieces of this process's memory, translated from the host's addresses.
struct Pieces {
  iovec* list = nullptr;
  uint32_t capacity = 0;
  uint32_t count = 0;
};

/// Finds the `size_bytes` (not 0) of host memory described by a command's data pointer, as PRPs or
/// as an SGL (NVMe Base 2.0 §4.1). Checks every address and reads every descriptor once. Returns
/// kSuccess, or the status with which to complete the command. On error, `unshared` is true if the
/// cause is memory that the host does not share: use DescribeData in that case.
nvme::Status LocateData(const DmaMap& memory, const nvme::Command& command, uint32_t size_bytes,
                        DmaAccessMode mode, Pieces& pieces, bool& unshared);

/// Like LocateData, but returns the host's addresses, whether or not the memory is shared. On
/// error, if `missing` is not empty, it describes a list that must be fetched first.
nvme::Status DescribeData(const DmaMap& memory, const FetchedLists& fetched,
                          const nvme::Command& command, uint32_t size_bytes, GuestPieces& pieces,
                          GuestPiece& missing);

}  // namespace sma::storage_target::nvmf::vfio_user
