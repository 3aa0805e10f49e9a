// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <iscsi/scsi-lowlevel.h>

#include <cstdint>
#include <optional>
#include <span>

// Detection of missing read data. A target may complete a read with GOOD without having sent all of
// its data, or with a gap in between, and libiscsi counts neither the received bytes nor their
// offsets. Therefore the buffers of a read are first filled with a mark of 32 bits. Where the mark
// remains, either nothing was written or the data happen to be equal to the mark. Repeating the
// read with a different mark distinguishes the two cases.

namespace sma::storage_target::bdev_iscsi {

/// Fills the buffers with `mark`, except for up to 3 bytes at each end of a misaligned buffer.
void PlantMarks(std::span<const scsi_iovec> iovs, uint32_t mark);

/// Returns the offset in bytes of the first remaining mark, counted over all buffers.
std::optional<uint64_t> FindMark(std::span<const scsi_iovec> iovs, uint32_t mark);

}  // namespace sma::storage_target::bdev_iscsi
