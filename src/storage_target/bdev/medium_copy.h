// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>

namespace sma::storage_target::bdev {

/// Copies into a disk's memory, bypassing the CPU's caches if there is 1 KiB or more: written
/// blocks are rarely read soon, and loading old contents into the caches only to overwrite them
/// takes longer than the copy. The regions must not overlap; any alignment is allowed.
///
/// Other threads may read the data only after OrderMediumCopies.
void CopyToMedium(std::byte* to, const std::byte* from, size_t size_bytes);

/// Makes the effects of this thread's earlier calls of CopyToMedium visible before its later
/// stores.
void OrderMediumCopies();

}  // namespace sma::storage_target::bdev
