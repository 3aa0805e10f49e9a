#pragma once

#include <optional>
#include <string>

#include "target/bdev_modules/nvme/nvme_module.h"
#include "target/rpc/params.h"
#include "target/rpc/rpc_server.h"

namespace sma::target::rpc {

/// All methods bdev_nvme_*.
void RegisterBdevNvmeRpc(RpcServer& server, bdev_nvme::NvmeModule& module);

// The parts of it.
void RegisterBdevNvmeOptionsRpc(RpcServer& server, bdev_nvme::NvmeModule& module);
void RegisterBdevNvmeControllerRpc(RpcServer& server, bdev_nvme::NvmeModule& module);
void RegisterBdevNvmeDiscoveryRpc(RpcServer& server, bdev_nvme::NvmeModule& module);

/// The parameters that name a remote address: trtype, traddr, adrfam, trsvcid.
struct RemoteParams {
  std::string trtype;
  std::string traddr;
  std::string adrfam;
  std::string trsvcid;

  /// Why they cannot be used, in SPDK's words; nullopt when they can. An address that is not
  /// numeric is no mistake here: SPDK finds out when it connects.
  std::optional<RpcError> Check() const;
  std::optional<initiator::Address> address() const;
};

/// The three reconnect parameters; any that is given makes a set of its own, the others being the
/// module's.
struct ReconnectParams {
  std::optional<int32_t> ctrlr_loss_timeout_sec;
  std::optional<uint32_t> reconnect_delay_sec;
  std::optional<uint32_t> fast_io_fail_timeout_sec;

  std::optional<bdev_nvme::ReconnectOptions> Over(const bdev_nvme::ReconnectOptions& module) const;
};

/// "active_passive" or "active_active".
struct PolicyParam {
  bdev_nvme::MultipathPolicy policy = bdev_nvme::MultipathPolicy::kActivePassive;
};
bool FromJson(const Json& value, PolicyParam* out);

/// The parameter multipath_opts: {policy, selector, min_io}.
struct MultipathParams {
  std::optional<PolicyParam> policy;
};
bool FromJson(const Json& value, MultipathParams* out);

}  // namespace sma::target::rpc
