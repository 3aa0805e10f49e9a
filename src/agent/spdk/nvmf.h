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

/// An NVMe-oF transport address as SPDK writes it: `trtype` "TCP", `adrfam` "IPv4".
struct TransportAddress {
  std::string trtype;
  std::string adrfam;
  std::string traddr;
  std::string trsvcid;
};

/// Whether both mean the same: without case, IP addresses by value, a missing `adrfam` or `trsvcid`
/// equal to any.
bool SameAddress(const TransportAddress& a, const TransportAddress& b);

/// An address in what the target answered; members that are missing are empty.
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
  std::string serial_number{};  // empty: not told
  bool allow_any_host = false;
  std::vector<std::string> hosts{};
  std::vector<TransportAddress> listeners{};
  std::vector<Namespace> namespaces{};
  uint32_t max_namespaces = 0;  // 0: not told
};

// Requests of the target's NVMe-oF methods.
jsonrpc::Request CreateTransport(std::string_view trtype);
jsonrpc::Request GetSubsystems();
jsonrpc::Request GetSubsystem(std::string_view nqn);
/// `serial_number` (NVMe Base 2.0 §5.17.2.1, SN): at most 20 printable ASCII characters; empty: the
/// target's default, the same for all subsystems.
jsonrpc::Request CreateSubsystem(std::string_view nqn, bool allow_any_host,
                                 std::string_view serial_number = {});
jsonrpc::Request DeleteSubsystem(std::string_view nqn);
jsonrpc::Request AllowAnyHost(std::string_view nqn);
jsonrpc::Request AddHost(std::string_view nqn, std::string_view host_nqn);
jsonrpc::Request RemoveHost(std::string_view nqn, std::string_view host_nqn);
jsonrpc::Request AddListener(std::string_view nqn, const TransportAddress& address);
jsonrpc::Request RemoveListener(std::string_view nqn, const TransportAddress& address);
/// `ns.nsid` 0: the target chooses; UUID or NGUID unset: those of the bdev.
jsonrpc::Request AddNamespace(std::string_view nqn, const Namespace& ns);
jsonrpc::Request RemoveNamespace(std::string_view nqn, uint32_t nsid);

/// What nvmf_get_subsystems answered. INTERNAL when it is malformed.
absl::StatusOr<std::vector<Subsystem>> ParseSubsystems(const jsonrpc::Json& answer);

/// What nvmf_get_subsystems answered for one NQN: nullopt when there is no such subsystem.
absl::StatusOr<std::optional<Subsystem>> ParseSubsystem(
    const absl::StatusOr<jsonrpc::Json>& answer);

/// The NSID that nvmf_subsystem_add_ns answered.
absl::StatusOr<uint32_t> ParseNsid(const jsonrpc::Json& answer);

/// Looks at one subsystem: nullopt when there is none of this name.
absl::StatusOr<std::optional<Subsystem>> FindSubsystem(jsonrpc::Caller& target,
                                                       const base::Context& context,
                                                       std::string_view nqn);

/// Whether the target said that a subsystem does not exist.
bool IsNoSuchSubsystem(const absl::Status& status);

/// Creates the transport unless it is there.
absl::Status EnsureTransport(jsonrpc::Caller& target, const base::Context& context,
                             std::string_view trtype);

}  // namespace sma::spdk
