// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "jsonrpc/protocol.h"
#include "storage_target/bdev/bdev.h"
#include "storage_target/bdev/value.h"

namespace sma::storage_target::rpc {

using jsonrpc::Json;

Json ToJson(const bdev::Value& value);
Json ToJson(const bdev::Object& object);
/// Returns {"method": ..., "params": {...}}.
Json ToJson(const bdev::ConfigCall& call);

/// Returns an element of the result of bdev_get_bdevs.
Json FormatBdev(const bdev::Bdev& bdev);
/// Returns an element of the result of bdev_get_iostat, without the name.
Json FormatIoStats(const bdev::IoStats& stats);

/// Returns the four limits as parameters of bdev_set_qos_limit; 0 means unlimited.
Json FormatLimits(const bdev::Limits& limits);

inline constexpr uint64_t kBytesPerMib = 1 << 20;
/// The tick rate reported by JSON-RPC: values in ticks are nanoseconds in this target.
inline constexpr uint64_t kTickRate = 1'000'000'000;

}  // namespace sma::storage_target::rpc
