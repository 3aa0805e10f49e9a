// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

namespace sma::storage_target::bdev {

namespace internal {
inline thread_local uint64_t in_place_revocations = 0;
}  // namespace internal

/// Called by a module when it lets other reactors write memory that ReadInPlace has returned in
/// this thread. From then on Channel::IsInPlace returns false for that memory.
inline void RevokeInPlace() { ++internal::in_place_revocations; }

/// Returns how often RevokeInPlace was called on this thread. While the number stays the same,
/// Channel::IsInPlace does not have to be checked again.
inline uint64_t InPlaceRevocations() { return internal::in_place_revocations; }

}  // namespace sma::storage_target::bdev
