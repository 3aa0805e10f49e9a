#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace sma::cli {

inline constexpr char kDefaultAddress[] = "localhost:8080";

/// What gRPC calls the agent at `address`: HOST, HOST:PORT, [IPV6]:PORT (port 8080 when missing) or
/// unix:PATH. INVALID_ARGUMENT for anything else.
absl::StatusOr<std::string> ParseAgentAddress(std::string_view address);

/// A transport address of a remote target.
struct TransportAddress {
  std::string trtype;
  std::string traddr;
  std::string trsvcid;
};

/// TRTYPE:ADDRESS:PORT, an IPv6 address in brackets. INVALID_ARGUMENT for anything else.
absl::StatusOr<TransportAddress> ParseTransportAddress(std::string_view text);

}  // namespace sma::cli
