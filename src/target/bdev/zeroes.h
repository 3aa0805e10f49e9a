#pragma once

#include <cstddef>
#include <span>

namespace sma::target::bdev {

/// A megabyte of zeroes, aligned to a page and shared by all; nobody writes there (it is mapped
/// read-only).
std::span<std::byte> Zeroes();

}  // namespace sma::target::bdev
