#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "target/nvme/command.h"
#include "target/nvme/status.h"
#include "target/nvmf/vfio_user/guest_pieces.h"
#include "target/vfio_user/dma_map.h"

namespace sma::target::nvmf::vfio_user {

using target::vfio_user::DmaAccessMode;
using target::vfio_user::DmaMap;

/// PRP2 of a command whose data pointer is PRPs.
uint64_t Prp2Of(const nvme::Command& command);

/// Pieces of this process's memory, filled from the host's addresses.
struct Pieces {
  iovec* list = nullptr;
  uint32_t capacity = 0;
  uint32_t count = 0;
};

/// Finds the `size_bytes` (not 0) of host memory that a command's data pointer describes, as PRPs
/// or as an SGL (NVMe Base 2.0 §4.1). Every address is checked, every descriptor is read once.
/// kSuccess, or the status to end the command with. With an error `unshared` tells whether memory
/// that the host does not share was in the way: DescribeData finds the way to it.
nvme::Status LocateData(const DmaMap& memory, const nvme::Command& command, uint32_t size_bytes,
                        DmaAccessMode mode, Pieces& pieces, bool& unshared);

/// The same by the host's addresses, wherever they lead. With an error `missing`, unless it has no
/// bytes, is a list that has to be among the fetched ones first.
nvme::Status DescribeData(const DmaMap& memory, const FetchedLists& fetched,
                          const nvme::Command& command, uint32_t size_bytes, GuestPieces& pieces,
                          GuestPiece& missing);

}  // namespace sma::target::nvmf::vfio_user
