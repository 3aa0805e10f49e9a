// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/bdev/bdev_rpc.h"

#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "storage_target/reactor/reactor.h"
#include "storage_target/rpc/bdev_format.h"
#include "storage_target/rpc/params.h"

namespace sma::storage_target::rpc {
namespace {

using bdev::Bdev;
using bdev::Registry;

// The granularity of limits on operations, as in SPDK.
constexpr uint64_t kIosStep = 1000;
constexpr uint64_t kMaxMibPerSec = UINT64_MAX / kBytesPerMib;

void GetBdevs(Registry& registry, BdevWaiter& waiter, const Json& params, const Reply& reply) {
  std::optional<std::string> name;
  uint64_t timeout_ms = 0;
  if (!Decode(params, {Optional("name", &name), Optional("timeout", &timeout_ms)})) {
    return reply(DecodeError());
  }
  if (!name) {
    Json list = Json::array();
    for (const Bdev* bdev : registry.List()) list.push_back(FormatBdev(*bdev));
    return reply(std::move(list));
  }
  if (timeout_ms == 0) {
    const Bdev* bdev = registry.Find(*name);
    if (bdev == nullptr) return reply(ErrnoError(ENODEV));
    return reply(Json::array({FormatBdev(*bdev)}));
  }
  constexpr uint64_t kMaxMs = 1'000'000'000;
  waiter.Wait(*name, std::chrono::milliseconds(std::min(timeout_ms, kMaxMs)),
              [reply](const Bdev* bdev) {
                if (bdev == nullptr) return reply(ErrnoError(ETIMEDOUT));
                reply(Json::array({FormatBdev(*bdev)}));
              });
}

/// The meaning of a reset mode; nullopt for an unknown mode.
struct ResetMode {
  bool reset = false;
  Registry::StatsPart part = Registry::StatsPart::kAll;
};
std::optional<ResetMode> ParseResetMode(const std::string& text) {
  if (text == "all") return ResetMode{true, Registry::StatsPart::kAll};
  if (text == "maxmin") return ResetMode{true, Registry::StatsPart::kMinMax};
  if (text == "none" || text == "error") return ResetMode{};
  return std::nullopt;
}

/// Returns the bdevs with these names, or all if no names are given; nullopt if one does not exist.
std::optional<std::vector<Bdev*>> FindAll(const Registry& registry,
                                          const std::optional<std::vector<std::string>>& names) {
  if (!names) return registry.List();
  std::vector<Bdev*> bdevs;
  for (const std::string& name : *names) {
    Bdev* bdev = registry.Find(name);
    if (bdev == nullptr) return std::nullopt;
    bdevs.push_back(bdev);
  }
  return bdevs;
}

/// Resets all `bdevs`, then replies with `result`.
void ResetThenReply(Registry& registry, const std::vector<Bdev*>& bdevs, Registry::StatsPart part,
                    Json result, const Reply& reply) {
  // Sends the reply when its last owner releases it.
  struct Last {
    ~Last() { reply(std::move(result)); }
    Json result;
    Reply reply;
  };
  std::shared_ptr<Last> last(new Last{std::move(result), reply});
  for (Bdev* bdev : bdevs) registry.ResetStats(*bdev, part, [last] {});
}

Json FormatChannels(const Bdev& bdev) {
  Json channels = Json::array();
  for (const auto& [reactor, stats] : bdev.channel_stats()) {
    Json channel = FormatIoStats(stats);
    channel["thread_id"] = reactor->tid();
    channels.push_back(std::move(channel));
  }
  return channels;
}

void GetIostat(Registry& registry, const Json& params, const Reply& reply) {
  std::optional<std::vector<std::string>> names;
  bool per_channel = false;
  std::string reset_mode = "none";
  if (!Decode(params, {Optional("names", &names), Optional("per_channel", &per_channel),
                       Optional("reset_mode", &reset_mode)})) {
    return reply(DecodeError());
  }
  std::optional<ResetMode> mode = ParseResetMode(reset_mode);
  if (!mode) return reply(DecodeError());
  if (per_channel && !names) return reply(ErrnoError(EINVAL));
  auto bdevs = FindAll(registry, names);
  if (!bdevs) return reply(ErrnoError(ENODEV));

  Json list = Json::array();
  for (const Bdev* bdev : *bdevs) {
    Json entry;
    if (per_channel) {
      entry["channels"] = FormatChannels(*bdev);
    } else {
      entry = FormatIoStats(bdev->stats());
    }
    entry["name"] = bdev->name();
    list.push_back(std::move(entry));
  }
  Json result = {
      {"tick_rate", kTickRate}, {"ticks", registry.control().now_ns()}, {"bdevs", std::move(list)}};
  if (!mode->reset) return reply(std::move(result));
  ResetThenReply(registry, *bdevs, mode->part, std::move(result), reply);
}

void ResetIostat(Registry& registry, const Json& params, const Reply& reply) {
  std::optional<std::string> name;
  std::string reset_mode = "all";
  if (!Decode(params, {Optional("name", &name), Optional("mode", &reset_mode)})) {
    return reply(DecodeError());
  }
  std::optional<ResetMode> mode = ParseResetMode(reset_mode);
  if (!mode) return reply(DecodeError());
  std::optional<std::vector<std::string>> names;
  if (name) names = {*name};
  auto bdevs = FindAll(registry, names);
  if (!bdevs) return reply(ErrnoError(ENODEV));
  if (!mode->reset) bdevs->clear();
  ResetThenReply(registry, *bdevs, mode->part, Json(true), reply);
}

/// Sets `*limit` to `wanted`, rounded up to a multiple of `step` as SPDK does.
void SetLimit(uint64_t* limit, uint64_t wanted, uint64_t step) {
  *limit = wanted == 0 ? 0 : (wanted - 1) / step * step + step;
}

RpcResult SetQosLimit(Registry& registry, const Json& params) {
  constexpr uint64_t kKept = UINT64_MAX;
  std::string name;
  uint64_t ios = kKept;
  uint64_t rw_mib = kKept;
  uint64_t r_mib = kKept;
  uint64_t w_mib = kKept;
  if (!Decode(params, {Required("name", &name), Optional("rw_ios_per_sec", &ios),
                       Optional("rw_mbytes_per_sec", &rw_mib), Optional("r_mbytes_per_sec", &r_mib),
                       Optional("w_mbytes_per_sec", &w_mib)})) {
    return DecodeError();
  }
  Bdev* bdev = registry.Find(name);
  if (bdev == nullptr) return ErrnoError(ENODEV);
  if (ios == kKept && rw_mib == kKept && r_mib == kKept && w_mib == kKept) {
    return ErrnoError(EINVAL, "No rate limits specified");
  }
  bdev::Limits limits = bdev->limits();
  if (ios != kKept) SetLimit(&limits.rw_ios_per_sec, std::min(ios, kKept - kIosStep), kIosStep);
  auto set_bytes = [](uint64_t* limit, uint64_t mib) {
    if (mib != kKept) *limit = std::min(mib, kMaxMibPerSec) * kBytesPerMib;
  };
  set_bytes(&limits.rw_bytes_per_sec, rw_mib);
  set_bytes(&limits.r_bytes_per_sec, r_mib);
  set_bytes(&limits.w_bytes_per_sec, w_mib);
  registry.SetLimits(*bdev, limits);
  return Json(true);
}

RpcResult EnableHistogram(const Registry& registry, const Json& params) {
  std::string name;
  bool enable = false;
  if (!Decode(params, {Required("name", &name), Required("enable", &enable), Ignored("opc"),
                       Ignored("granularity"), Ignored("min_nsec"), Ignored("max_nsec")})) {
    return DecodeError();
  }
  if (registry.Find(name) == nullptr) return ErrnoError(ENODEV);
  if (enable) return NotSupported("enable");
  return Json(true);
}

Json SaveBdevs(const Registry& registry) {
  Json saved = Json::array();
  std::vector<bdev::ConfigCall> calls;
  registry.SaveConfig(calls);
  for (const bdev::ConfigCall& call : calls) saved.push_back(ToJson(call));
  for (const Bdev* bdev : registry.List()) {
    if (!bdev->limits().any()) continue;
    Json params = FormatLimits(bdev->limits());
    params["name"] = bdev->name();
    saved.push_back({{"method", "bdev_set_qos_limit"}, {"params", std::move(params)}});
  }
  saved.push_back({{"method", "bdev_wait_for_examine"}});
  return saved;
}

}  // namespace

void RegisterBdevRpc(RpcServer& server, Registry& registry, BdevWaiter& waiter) {
  server.RegisterAsync("bdev_get_bdevs", [&](const Json& params, const Reply& reply) {
    GetBdevs(registry, waiter, params, reply);
  });
  server.RegisterAsync("bdev_get_iostat", [&](const Json& params, const Reply& reply) {
    GetIostat(registry, params, reply);
  });
  server.RegisterAsync("bdev_reset_iostat", [&](const Json& params, const Reply& reply) {
    ResetIostat(registry, params, reply);
  });
  server.Register("bdev_set_qos_limit",
                  [&](const Json& params) { return SetQosLimit(registry, params); });
  server.Register("bdev_enable_histogram",
                  [&](const Json& params) { return EnableHistogram(registry, params); });
  // Stacked bdevs are created when their base bdevs appear: there is nothing to examine or to wait
  // for.
  server.Register("bdev_examine", [](const Json& params) -> RpcResult {
    std::string name;
    if (!Decode(params, {Required("name", &name)})) return DecodeError();
    return Json(true);
  });
  server.Register("bdev_wait_for_examine", [](const Json& params) -> RpcResult {
    if (!Decode(params, {})) return DecodeError();
    return Json(true);
  });
  server.AddSubsystem(
      {"bdev", {"accel", "sock", "iobuf"}, [&registry] { return SaveBdevs(registry); }});
}

void DeleteBdev(Registry& registry, std::string_view module, const Json& params,
                const Reply& reply) {
  std::string name;
  if (!Decode(params, {Required("name", &name)})) return reply(DecodeError());
  int error = registry.Unregister(name, module, [reply] { reply(Json(true)); });
  if (error != 0) reply(ErrnoError(error));
}

}  // namespace sma::storage_target::rpc
