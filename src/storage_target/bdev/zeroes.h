// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <span>

namespace sma::storage_target::bdev {

/// Returns one MiB of zeroes, page-aligned, shared by all users and mapped read-only.
std::span<std::byte> Zeroes();

}  // namespace sma::storage_target::bdev
