// SPDX-License-Identifier: Apache-2.0

// Implements bdev_nvme_start_discovery, bdev_nvme_stop_discovery and bdev_nvme_get_discovery_info.

#include <cerrno>
#include <chrono>

#include "base/nqn.h"
#include "storage_target/bdev_modules/nvme/driver_info.h"
#include "storage_target/nvme/fabrics.h"
#include "storage_target/rpc/bdev/bdev_nvme_rpc.h"
#include "storage_target/rpc/bdev_format.h"

namespace sma::storage_target::rpc {
namespace {

using bdev_nvme::DiscoveryService;
using bdev_nvme::NvmeModule;

struct StartParams {
  std::string name;
  RemoteParams remote;
  std::string hostnqn;
  bool wait_for_attach = false;
  uint64_t attach_timeout_ms = 0;
  ReconnectParams reconnect;

  bool DecodeFrom(const Json& params) {
    return Decode(params,
                  {Required("name", &name), Required("trtype", &remote.trtype),
                   Required("traddr", &remote.traddr), Optional("adrfam", &remote.adrfam),
                   Optional("trsvcid", &remote.trsvcid), Optional("hostnqn", &hostnqn),
                   Optional("wait_for_attach", &wait_for_attach),
                   Optional("attach_timeout_ms", &attach_timeout_ms),
                   Optional("ctrlr_loss_timeout_sec", &reconnect.ctrlr_loss_timeout_sec),
                   Optional("reconnect_delay_sec", &reconnect.reconnect_delay_sec),
                   Optional("fast_io_fail_timeout_sec", &reconnect.fast_io_fail_timeout_sec)});
  }
};

// A longer timeout would be practically infinite; this one does not overflow a clock.
constexpr uint64_t kMaxTimeoutMs = uint64_t{365} * 24 * 3600 * 1000;

void Start(NvmeModule& module, const Json& params, const Reply& reply) {
  StartParams start;
  if (!start.DecodeFrom(params)) return reply(DecodeError());
  if (auto error = start.remote.Check()) return reply(*error);
  if (!start.hostnqn.empty() && !base::IsValidNqn(start.hostnqn)) return reply(ErrnoError(EINVAL));
  bool waits = start.wait_for_attach || start.attach_timeout_ms != 0;
  auto address = start.remote.address();
  // SPDK tries to connect to an invalid address until the timeout expires.
  if (!address) return reply(ErrnoError(waits ? ETIMEDOUT : EINVAL));

  DiscoveryService::Options options{
      .name = start.name,
      .address = *address,
      .hostnqn = start.hostnqn,
      .wait_for_attach = waits,
      .attach_timeout = std::chrono::milliseconds(std::min(start.attach_timeout_ms, kMaxTimeoutMs)),
      .reconnect = start.reconnect.WithDefaults(module.options().reconnect)};
  int error = module.StartDiscovery(options, [reply](int result) { reply(TrueOrErrno(result)); });
  if (error != 0) reply(ErrnoError(error));
}

void Stop(NvmeModule& module, const Json& params, const Reply& reply) {
  std::string name;
  if (!Decode(params, {Required("name", &name)})) return reply(DecodeError());
  int error = module.StopDiscovery(name, [reply] { reply(Json(true)); });
  if (error != 0) reply(ErrnoError(error));
}

RpcResult GetInfo(const NvmeModule& module, const Json& params) {
  if (!Decode(params, {})) return DecodeError();
  Json list = Json::array();
  for (const DiscoveryService* service : module.discovery_services()) {
    Json referrals = Json::array();
    for (const initiator::DiscoveryEntry& entry : service->referrals()) {
      referrals.push_back({{"trid", ToJson(bdev_nvme::TransportId(entry.address, entry.subnqn))}});
    }
    const DiscoveryService::Options& options = service->options();
    list.push_back({{"name", options.name},
                    {"trid", ToJson(bdev_nvme::TransportId(options.address, nvme::kDiscoveryNqn))},
                    {"referrals", std::move(referrals)}});
  }
  return list;
}

}  // namespace

void RegisterBdevNvmeDiscoveryRpc(RpcServer& server, NvmeModule& module) {
  server.RegisterAsync("bdev_nvme_start_discovery", [&](const Json& params, const Reply& reply) {
    Start(module, params, reply);
  });
  server.RegisterAsync("bdev_nvme_stop_discovery", [&](const Json& params, const Reply& reply) {
    Stop(module, params, reply);
  });
  server.Register("bdev_nvme_get_discovery_info",
                  [&](const Json& params) { return GetInfo(module, params); });
}

}  // namespace sma::storage_target::rpc
