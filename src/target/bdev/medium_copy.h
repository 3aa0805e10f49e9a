#pragma once

#include <cstddef>

namespace sma::target::bdev {

/// Copies to memory that is a disk, past the processor's caches when it is a kibibyte or more: what
/// is written there is rarely read soon, and bringing old contents into the caches only to
/// overwrite them takes longer than the copy. Regions that do not overlap, any alignment.
///
/// Another thread is told of it only after OrderMediumCopies.
void CopyToMedium(std::byte* to, const std::byte* from, size_t size_bytes);

/// Makes what this thread copied by CopyToMedium visible before anything that it stores afterwards.
void OrderMediumCopies();

}  // namespace sma::target::bdev
