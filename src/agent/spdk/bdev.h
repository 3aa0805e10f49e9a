// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/spdk/nvmf.h"
#include "base/context.h"
#include "base/uuid.h"
#include "jsonrpc/caller.h"

namespace sma::spdk {

/// Rate limits of a bdev in the target's units. In a bdev 0 means unlimited; in a request, an unset
/// limit remains unchanged.
struct RateLimits {
  std::optional<uint64_t> rw_ios_per_sec{};
  std::optional<uint64_t> rw_mbytes_per_sec{};
  std::optional<uint64_t> r_mbytes_per_sec{};
  std::optional<uint64_t> w_mbytes_per_sec{};

  friend bool operator==(const RateLimits&, const RateLimits&) = default;
};

/// The base bdev and the key of a crypto bdev, by name.
struct CryptoLayer {
  std::string base_bdev_name;
  std::string key_name;
};

/// A path to a namespace of a remote subsystem.
struct NamespacePath {
  TransportAddress address;
  std::string subnqn;
};

struct Bdev {
  std::string name;
  std::optional<base::Uuid> uuid;
  std::vector<std::string> aliases{};
  std::string product_name;
  bool claimed = false;
  RateLimits limits{};
  uint64_t block_count = 0;
  /// True for a namespace of a remote NVMe subsystem.
  bool is_nvme = false;
  /// NQNs of the subsystems through which an NVMe bdev is reached; empty for other bdevs.
  std::vector<std::string> subsystem_nqns{};
  /// The paths of an NVMe bdev, whether they are up or not; empty for other bdevs.
  std::vector<NamespacePath> paths{};
  /// Set for a crypto bdev.
  std::optional<CryptoLayer> crypto{};
};

/// Returns true if the description is complete. The target registers an NVMe bdev before its first
/// path appears in the description; no decision may be based on such a description.
bool IsComplete(const Bdev& bdev);

/// Queries the bdev `name`, which may be an alias. The target waits up to `wait` for the bdev to
/// appear; with 0 it does not wait.
jsonrpc::Request GetBdev(std::string_view name,
                         std::chrono::milliseconds wait = std::chrono::milliseconds(0));
jsonrpc::Request SetQosLimit(std::string_view name, const RateLimits& limits);

/// Parses the answer of bdev_get_bdevs. Returns INTERNAL if it is malformed.
absl::StatusOr<std::vector<Bdev>> ParseBdevs(const jsonrpc::Json& answer);

/// Parses the answer of bdev_get_bdevs for one name. Returns nullopt if there is no such bdev, or
/// if it did not appear in time.
absl::StatusOr<std::optional<Bdev>> ParseBdev(const absl::StatusOr<jsonrpc::Json>& answer);

/// Queries a bdev and waits up to `wait` for it, but stops waiting shortly before the deadline of
/// `context`, so that the caller can still be told that it is absent. Returns nullopt if the bdev
/// did not appear; DEADLINE_EXCEEDED if it did not appear within the time left in `context`, which
/// was shorter than `wait`.
absl::StatusOr<std::optional<Bdev>> FindBdev(jsonrpc::Caller& target, const base::Context& context,
                                             std::string_view name, std::chrono::nanoseconds wait);

/// Sets rate limits; retries while the target is still applying earlier ones. Returns UNAVAILABLE
/// if that takes too long.
absl::Status SetQosLimits(jsonrpc::Caller& target, const base::Context& context,
                          std::string_view name, const RateLimits& limits);

}  // namespace sma::spdk
