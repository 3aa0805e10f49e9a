#pragma once

#include <chrono>
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

/// Limits of a bdev in the target's units. In a bdev 0 means unlimited; in a request, a limit that
/// is unset stays as it is.
struct RateLimits {
  std::optional<uint64_t> rw_ios_per_sec{};
  std::optional<uint64_t> rw_mbytes_per_sec{};
  std::optional<uint64_t> r_mbytes_per_sec{};
  std::optional<uint64_t> w_mbytes_per_sec{};

  friend bool operator==(const RateLimits&, const RateLimits&) = default;
};

/// What a crypto bdev sits on and is encrypted with; both names.
struct CryptoLayer {
  std::string base_bdev_name;
  std::string key_name;
};

struct Bdev {
  std::string name;
  std::optional<base::Uuid> uuid;
  std::vector<std::string> aliases{};
  std::string product_name;
  bool claimed = false;
  RateLimits limits{};
  uint64_t block_count = 0;
  /// Whether it is a namespace of a remote NVMe subsystem.
  bool is_nvme = false;
  /// NQNs of the subsystems that an NVMe bdev is reached through; empty for others.
  std::vector<std::string> subsystem_nqns{};
  /// Of a crypto bdev.
  std::optional<CryptoLayer> crypto{};
};

/// Whether all of the description is there. The target registers an NVMe bdev before the first path
/// is in its description; nothing is to be decided on that.
bool IsComplete(const Bdev& bdev);

jsonrpc::Request GetBdevs();
/// `name` may be an alias. The target waits up to `wait` for the bdev to appear; 0: it does not.
jsonrpc::Request GetBdev(std::string_view name,
                         std::chrono::milliseconds wait = std::chrono::milliseconds(0));
jsonrpc::Request SetQosLimit(std::string_view name, const RateLimits& limits);

/// What bdev_get_bdevs answered. INTERNAL when it is malformed.
absl::StatusOr<std::vector<Bdev>> ParseBdevs(const jsonrpc::Json& answer);

/// What bdev_get_bdevs answered for one name: nullopt when there is no such bdev (or none came).
absl::StatusOr<std::optional<Bdev>> ParseBdev(const absl::StatusOr<jsonrpc::Json>& answer);

/// Looks for a bdev and waits for it up to `wait`, but not to the very end of `context`, so that
/// its absence can still be answered. nullopt when it did not appear. DEADLINE_EXCEEDED: it did not
/// appear for as long as `context` allows, which is shorter than `wait`.
absl::StatusOr<std::optional<Bdev>> FindBdev(jsonrpc::Caller& target, const base::Context& context,
                                             std::string_view name, std::chrono::nanoseconds wait);

/// Sets limits, and tries again for as long as the target is still changing them. UNAVAILABLE when
/// that takes too long.
absl::Status SetQosLimits(jsonrpc::Caller& target, const base::Context& context,
                          std::string_view name, const RateLimits& limits);

}  // namespace sma::spdk
