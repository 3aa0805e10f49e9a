#pragma once

#include <memory>

#include "target/bdev/bdev.h"

namespace sma::target::bdev_modules {

/// A disk without a medium: reads give zeroes, writes are thrown away. Of `info` the caller sets
/// the name, UUID, size and preferences. For Registry::Register.
std::unique_ptr<bdev::Bdev> MakeNullBdev(bdev::Bdev::Info info);

inline constexpr char kNullModule[] = "null";

}  // namespace sma::target::bdev_modules
