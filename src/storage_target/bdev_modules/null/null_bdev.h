// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>

#include "storage_target/bdev/bdev.h"

namespace sma::storage_target::bdev_null {

/// Creates a bdev without a medium: reads return zeroes, writes are discarded. The caller sets the
/// name, UUID, size and preferences of `info`. The result is passed to Registry::Register.
std::unique_ptr<bdev::Bdev> MakeNullBdev(bdev::Bdev::Info info);

inline constexpr char kNullModule[] = "null";

}  // namespace sma::storage_target::bdev_null
