// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/uuid.h"
#include "jsonrpc/caller.h"

namespace sma::spdk {

/// An NVMe-oF transport address in SPDK's notation: `trtype` "TCP", `adrfam` "IPv4".
struct TransportAddress {
  std::string trtype;
  std::string adrfam;
  std::string traddr;
  std::string trsvcid;
};

/// Returns true if both addresses are equivalent: case is ignored, IP addresses are compared by
/// value, and a missing `adrfam` or `trsvcid` matches any.
bool SameAddress(const TransportAddress& a, const TransportAddress& b);

/// Parses an address in the target's answer; missing members are left empty.
TransportAddress ParseAddress(const jsonrpc::Json& address);

struct Namespace {
  uint32_t nsid = 0;
  std::string bdev_name;
  std::optional<base::Uuid> uuid;
  std::optional<base::Uuid> nguid;
};

struct Subsystem {
  std::string nqn;
  bool is_discovery = false;
  std::string serial_number{};  // empty: not reported
  bool allow_any_host = false;
  std::vector<std::string> hosts{};
  std::vector<TransportAddress> listeners{};
  std::vector<Namespace> namespaces{};
  uint32_t max_namespaces = 0;  // 0: not reported
};

// Requests for the target's NVMe-oF methods. `options` is an object with further parameters, or
// null.
jsonrpc::Request CreateTransport(std::string_view trtype, const jsonrpc::Json& options = {});
jsonrpc::Request GetSubsystems();
jsonrpc::Request GetSubsystem(std::string_view nqn);
/// `serial_number` (NVMe Base 2.0 §5.17.2.1, SN) has at most 20 printable ASCII characters. If it
/// is empty, the target uses its default, which is the same for all subsystems.
jsonrpc::Request CreateSubsystem(std::string_view nqn, bool allow_any_host,
                                 std::string_view serial_number = {});
jsonrpc::Request DeleteSubsystem(std::string_view nqn);
jsonrpc::Request AllowAnyHost(std::string_view nqn);
jsonrpc::Request AddHost(std::string_view nqn, std::string_view host_nqn);
jsonrpc::Request RemoveHost(std::string_view nqn, std::string_view host_nqn);
jsonrpc::Request AddListener(std::string_view nqn, const TransportAddress& address);
jsonrpc::Request RemoveListener(std::string_view nqn, const TransportAddress& address);
/// If `ns.nsid` is 0, the target selects an NSID. An unset UUID or NGUID is taken from the bdev.
jsonrpc::Request AddNamespace(std::string_view nqn, const Namespace& ns);
jsonrpc::Request RemoveNamespace(std::string_view nqn, uint32_t nsid);

/// Parses the answer of nvmf_get_subsystems. Returns INTERNAL if it is malformed.
absl::StatusOr<std::vector<Subsystem>> ParseSubsystems(const jsonrpc::Json& answer);

/// Parses the answer of nvmf_get_subsystems for one NQN. Returns nullopt if there is no such
/// subsystem.
absl::StatusOr<std::optional<Subsystem>> ParseSubsystem(
    const absl::StatusOr<jsonrpc::Json>& answer);

/// Parses the NSID in the answer of nvmf_subsystem_add_ns.
absl::StatusOr<uint32_t> ParseNsid(const jsonrpc::Json& answer);

/// Queries one subsystem. Returns nullopt if it does not exist.
absl::StatusOr<std::optional<Subsystem>> FindSubsystem(jsonrpc::Caller& target,
                                                       const base::Context& context,
                                                       std::string_view nqn);

/// Returns the number of hosts that are connected to a subsystem; 0 if it does not exist, or if the
/// target does not report them.
absl::StatusOr<size_t> CountHosts(jsonrpc::Caller& target, const base::Context& context,
                                  std::string_view nqn);

/// Returns true if the target answered that a subsystem does not exist.
bool IsNoSuchSubsystem(const absl::Status& status);

/// Creates the transport with `options` (see CreateTransport) unless it exists.
absl::Status EnsureTransport(jsonrpc::Caller& target, const base::Context& context,
                             std::string_view trtype, const jsonrpc::Json& options = {});

}  // namespace sma::spdk
