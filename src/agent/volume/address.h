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

/// `address` in one spelling: the type in lower case ("tcp" when it is missing), the port there
/// (`default_port` when it is missing), an IP address in its canonical form. A host name stays.
/// INVALID_ARGUMENT, with `field` as what it is about.
absl::StatusOr<nvmf::Address> CheckAddress(const nvmf::Address& address, std::string_view field,
                                           std::string_view default_port);

/// What base::LookUpHost does.
using HostLookUp = std::function<int(const std::string& host, std::string& ip)>;

/// Puts the IP address in the place of a host name in an address that CheckAddress gave: the one
/// that the system puts first. Blocks, no longer than `context` allows, whatever `look_up` does.
/// INVALID_ARGUMENT: there is no such host. UNAVAILABLE: nobody can tell now.
absl::Status ResolveHost(const base::Context& context, nvmf::Address& address,
                         const HostLookUp& look_up = base::LookUpHost);

/// A resolved address as the target takes it.
spdk::TransportAddress ToTransportAddress(const nvmf::Address& address);

}  // namespace sma::volume
