// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/spdk/nvmf.h"
#include "base/context.h"
#include "base/host_name.h"
#include "sma.pb.h"

namespace sma::volume {

/// Returns `address` in canonical form: the type in lower case ("tcp" if missing), with a port
/// (`default_port` if missing), and with an IP address in its canonical spelling. A host name is
/// left as it is. Returns INVALID_ARGUMENT if a part is invalid, with a message that begins with
/// `field`.
absl::StatusOr<nvmf::Address> CheckAddress(const nvmf::Address& address, std::string_view field,
                                           std::string_view default_port);

/// Same contract as base::LookUpHost.
using ResolveFunction = std::function<int(const std::string& host, std::string& ip)>;

/// Replaces the host name in an address from CheckAddress with the first IP address that the
/// system's resolver returns. Blocks until `context` ends at the latest, even if `resolve` hangs.
/// Returns INVALID_ARGUMENT if the host does not exist, UNAVAILABLE if it cannot be resolved at
/// present.
absl::Status ResolveHost(const base::Context& context, nvmf::Address& address,
                         const ResolveFunction& resolve = base::LookUpHost);

/// Converts a resolved address to the target's form.
spdk::TransportAddress ToTransportAddress(const nvmf::Address& address);

/// Returns the name of the storage node to which `address` belongs.
std::string NodeName(const spdk::TransportAddress& address);

}  // namespace sma::volume
