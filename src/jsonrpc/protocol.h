// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

namespace sma::jsonrpc {

using Json = nlohmann::json;

// Error codes that are reserved by JSON-RPC 2.0 §5.1.
inline constexpr int kParseError = -32700;
inline constexpr int kInvalidRequest = -32600;
inline constexpr int kMethodNotFound = -32601;
inline constexpr int kInvalidParams = -32602;
inline constexpr int kInternalError = -32603;

/// The size in bytes of the largest request that SPDK accepts.
inline constexpr size_t kMaxRequestBytes = 256 * 1024;

/// The deepest nesting of objects and arrays that is accepted from a peer.
inline constexpr int kMaxNesting = 64;

/// Parses one JSON text (RFC 8259) of any type; returns nullopt if `text` is anything else. Never
/// throws.
std::optional<Json> Parse(std::string_view text);

}  // namespace sma::jsonrpc
