// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <functional>
#include <memory>
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

/// Resolves host names. Each host is a failure domain: a call waits for at most `patience` for its
/// name, and for a moment only if the name was not resolved in time before; the lookup goes on in a
/// thread of its own, of which there is one for each host and a limited number in total.
/// Thread-safe.
class HostResolver {
 public:
  explicit HostResolver(ResolveFunction resolve = base::LookUpHost,
                        std::chrono::nanoseconds patience = std::chrono::seconds(2));

  /// Replaces the host name in an address from CheckAddress with the first IP address that the
  /// system's resolver returns. Blocks until `context` ends at the latest. Returns INVALID_ARGUMENT
  /// if the host does not exist, UNAVAILABLE if it cannot be resolved at present.
  absl::Status Resolve(const base::Context& context, nvmf::Address& address);

 private:
  struct Lookup;
  struct State;

  static void Run(const std::shared_ptr<State>& state, const std::shared_ptr<Lookup>& lookup,
                  const ResolveFunction& resolve, const std::string& host);
  std::shared_ptr<Lookup> Begin(const std::string& host, std::chrono::nanoseconds& wait);
  void NoteSilent(const std::string& host);

  const ResolveFunction resolve_;
  const std::chrono::nanoseconds patience_;
  const std::shared_ptr<State> state_;
};

/// Resolves a host name with the HostResolver of this process.
absl::Status ResolveHost(const base::Context& context, nvmf::Address& address);

/// Converts a resolved address to the target's form.
spdk::TransportAddress ToTransportAddress(const nvmf::Address& address);

/// Returns the name of the storage node to which `address` belongs.
std::string NodeName(const spdk::TransportAddress& address);

}  // namespace sma::volume
