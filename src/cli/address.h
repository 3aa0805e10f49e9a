// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace sma::cli {

inline constexpr char kDefaultAddress[] = "localhost:8080";

/// Returns the gRPC target name for `address`: HOST, HOST:PORT, [IPV6]:PORT (default port 8080) or
/// unix:PATH. Returns INVALID_ARGUMENT for anything else.
absl::StatusOr<std::string> ParseAgentAddress(std::string_view address);

/// Returns host (an IPv6 address without brackets) and port of an agent's address; nullopt if it is
/// a Unix socket or invalid.
std::optional<std::pair<std::string, std::string>> AgentHostAndPort(std::string_view address);

/// A transport address of a storage node.
struct TransportAddress {
  std::string trtype;
  std::string traddr;
  std::string trsvcid;
};

/// Parses TRTYPE:ADDRESS:PORT, with an IPv6 address in brackets. Returns INVALID_ARGUMENT for
/// anything else.
absl::StatusOr<TransportAddress> ParseTransportAddress(std::string_view text);

}  // namespace sma::cli
