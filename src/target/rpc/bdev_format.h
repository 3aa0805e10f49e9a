#pragma once

#include "jsonrpc/protocol.h"
#include "target/bdev/bdev.h"
#include "target/bdev/value.h"

namespace sma::target::rpc {

using jsonrpc::Json;

Json ToJson(const bdev::Value& value);
Json ToJson(const bdev::Object& object);
/// {"method": ..., "params": {...}}
Json ToJson(const bdev::ConfigCall& call);

/// The element of bdev_get_bdevs' answer.
Json FormatBdev(const bdev::Bdev& bdev);
/// The element of bdev_get_iostat's answer without the name.
Json FormatIoStats(const bdev::IoStats& stats);

/// The four limits as bdev_set_qos_limit takes them, 0 for none.
Json FormatLimits(const bdev::Limits& limits);

inline constexpr uint64_t kBytesPerMib = 1 << 20;
/// What JSON-RPC answers call ticks are nanoseconds here.
inline constexpr uint64_t kTickRate = 1'000'000'000;

}  // namespace sma::target::rpc
