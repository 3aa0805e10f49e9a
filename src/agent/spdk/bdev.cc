// SPDX-License-Identifier: Apache-2.0

#include "agent/spdk/bdev.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/spdk/call.h"
#include "agent/spdk/json_read.h"
#include "jsonrpc/error.h"

namespace sma::spdk {
namespace {

using jsonrpc::Json;
using jsonrpc::Request;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr char kGetBdevs[] = "bdev_get_bdevs";

// How long to retry while the target is still applying earlier limits.
constexpr std::chrono::seconds kQosBusyTime{2};
constexpr milliseconds kQosRetryPeriod{20};

std::vector<NamespacePath> ParsePaths(const Json& entry) {
  std::vector<NamespacePath> paths;
  const Json* driver = Member(entry, "driver_specific");
  if (driver == nullptr) return paths;
  for (const Json* path : ElementsOf(*driver, "nvme")) {
    const Json* trid = Member(*path, "trid");
    if (trid == nullptr) continue;
    if (auto nqn = StringMember(*trid, "subnqn")) {
      paths.push_back({.address = ParseAddress(*trid), .subnqn = *std::move(nqn)});
    }
  }
  return paths;
}

bool IsNvme(const Json& entry) {
  const Json* driver = Member(entry, "driver_specific");
  return driver != nullptr && Member(*driver, "nvme") != nullptr;
}

std::optional<CryptoLayer> ParseCryptoLayer(const Json& entry) {
  const Json* driver = Member(entry, "driver_specific");
  const Json* crypto = driver == nullptr ? nullptr : Member(*driver, "crypto");
  if (crypto == nullptr) return std::nullopt;
  return CryptoLayer{.base_bdev_name = StringMember(*crypto, "base_bdev_name").value_or(""),
                     .key_name = StringMember(*crypto, "key_name").value_or("")};
}

std::optional<Bdev> ParseEntry(const Json& entry) {
  std::optional<std::string> name = StringMember(entry, "name");
  if (!name) return std::nullopt;
  Bdev bdev{.name = *name,
            .uuid = base::Uuid::Parse(StringMember(entry, "uuid").value_or("")),
            .product_name = StringMember(entry, "product_name").value_or(""),
            .claimed = BoolMember(entry, "claimed").value_or(false),
            .block_count = UintMember(entry, "num_blocks").value_or(0),
            .is_nvme = IsNvme(entry),
            .paths = ParsePaths(entry),
            .crypto = ParseCryptoLayer(entry)};
  for (const NamespacePath& path : bdev.paths) bdev.subsystem_nqns.push_back(path.subnqn);
  for (const Json* alias : ElementsOf(entry, "aliases")) {
    if (alias->is_string()) bdev.aliases.push_back(alias->get<std::string>());
  }
  if (const Json* limits = Member(entry, "assigned_rate_limits")) {
    bdev.limits = {.rw_ios_per_sec = UintMember(*limits, "rw_ios_per_sec"),
                   .rw_mbytes_per_sec = UintMember(*limits, "rw_mbytes_per_sec"),
                   .r_mbytes_per_sec = UintMember(*limits, "r_mbytes_per_sec"),
                   .w_mbytes_per_sec = UintMember(*limits, "w_mbytes_per_sec")};
  }
  return bdev;
}

bool IsNoSuchBdev(const absl::Status& status) {
  std::optional<jsonrpc::TargetError> error = jsonrpc::GetTargetError(status);
  return error && (error->code == -ENODEV || error->code == -ETIMEDOUT);
}

// The target applies limits in the background and refuses further changes until it has finished.
bool IsQosBusy(const absl::Status& status) {
  std::optional<jsonrpc::TargetError> error = jsonrpc::GetTargetError(status);
  return error &&
         (error->code == -EAGAIN || error->message.ends_with("Resource temporarily unavailable"));
}

}  // namespace

bool IsComplete(const Bdev& bdev) {
  return bdev.uuid && bdev.block_count > 0 && (!bdev.is_nvme || !bdev.subsystem_nqns.empty());
}

Request GetBdev(std::string_view name, milliseconds wait) {
  Json params{{"name", name}};
  if (wait.count() > 0) params["timeout"] = wait.count();
  return {kGetBdevs, std::move(params)};
}

Request SetQosLimit(std::string_view name, const RateLimits& limits) {
  Json params{{"name", name}};
  auto add = [&params](const char* member, std::optional<uint64_t> limit) {
    if (limit) params[member] = *limit;
  };
  add("rw_ios_per_sec", limits.rw_ios_per_sec);
  add("rw_mbytes_per_sec", limits.rw_mbytes_per_sec);
  add("r_mbytes_per_sec", limits.r_mbytes_per_sec);
  add("w_mbytes_per_sec", limits.w_mbytes_per_sec);
  return {"bdev_set_qos_limit", std::move(params)};
}

absl::StatusOr<std::vector<Bdev>> ParseBdevs(const Json& answer) {
  return ParseArray(answer, kGetBdevs, ParseEntry);
}

absl::StatusOr<std::optional<Bdev>> ParseBdev(const absl::StatusOr<Json>& answer) {
  if (IsNoSuchBdev(answer.status())) return std::nullopt;
  if (!answer.ok()) return answer.status();
  return TakeOnly(ParseBdevs(*answer), kGetBdevs);
}

absl::StatusOr<std::optional<Bdev>> FindBdev(jsonrpc::Caller& target, const base::Context& context,
                                             std::string_view name, nanoseconds wait) {
  const nanoseconds wanted = wait;
  if (context.deadline() != base::TimePoint::max()) {
    nanoseconds left = context.deadline() - std::chrono::steady_clock::now();
    wait = std::clamp(left * 3 / 4, nanoseconds(0), wait);
  }
  const Request request = GetBdev(name, std::chrono::duration_cast<milliseconds>(wait));
  absl::StatusOr<std::optional<Bdev>> bdev = ParseBdev(target.Call(context, request));
  if (bdev.ok() && !*bdev && wait < wanted) {
    context.NoteCutShort();
    return absl::DeadlineExceededError(
        fmt::format("bdev {} did not appear before the deadline of the call", name));
  }
  return bdev;
}

absl::Status SetQosLimits(jsonrpc::Caller& target, const base::Context& context,
                          std::string_view name, const RateLimits& limits) {
  auto start = std::chrono::steady_clock::now();
  while (true) {
    absl::Status status = DoToEnd(target, context, SetQosLimit(name, limits));
    if (!IsQosBusy(status)) return status;
    auto now = std::chrono::steady_clock::now();
    if (now - start > kQosBusyTime) {
      return absl::UnavailableError(status.message());
    }
    if (absl::Status ended = context.SleepUntil(now + kQosRetryPeriod); !ended.ok()) return ended;
  }
}

}  // namespace sma::spdk
