// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>

#include "storage_target/bdev_modules/nvme/nvme_module.h"
#include "storage_target/rpc/params.h"
#include "storage_target/rpc/rpc_server.h"

namespace sma::storage_target::rpc {

/// Registers all bdev_nvme_* methods.
void RegisterBdevNvmeRpc(RpcServer& server, bdev_nvme::NvmeModule& module);

// Register some of these methods; called by RegisterBdevNvmeRpc.
void RegisterBdevNvmeOptionsRpc(RpcServer& server, bdev_nvme::NvmeModule& module);
void RegisterBdevNvmeControllerRpc(RpcServer& server, bdev_nvme::NvmeModule& module);
void RegisterBdevNvmeDiscoveryRpc(RpcServer& server, bdev_nvme::NvmeModule& module);

/// The parameters of a remote address: trtype, traddr, adrfam, trsvcid.
struct RemoteParams {
  std::string trtype;
  std::string traddr;
  std::string adrfam;
  std::string trsvcid;

  /// Returns the error in SPDK's words if the parameters are invalid, otherwise nullopt. A
  /// non-numeric address is not an error here, because SPDK detects it only when it connects.
  std::optional<RpcError> Check() const;
  std::optional<initiator::Address> address() const;
};

/// The three reconnect parameters. If any of them is given, they replace the module's parameters as
/// a set; otherwise the module's apply.
struct ReconnectParams {
  std::optional<int32_t> ctrlr_loss_timeout_sec;
  std::optional<uint32_t> reconnect_delay_sec;
  std::optional<uint32_t> fast_io_fail_timeout_sec;

  std::optional<bdev_nvme::ReconnectOptions> WithDefaults(
      const bdev_nvme::ReconnectOptions& module) const;
};

/// A multipath policy: "active_passive" or "active_active".
struct PolicyParam {
  bdev_nvme::MultipathPolicy policy = bdev_nvme::MultipathPolicy::kActivePassive;
};
bool FromJson(const Json& value, PolicyParam* out);

/// The parameter multipath_opts: {policy, selector, min_io}.
struct MultipathParams {
  std::optional<PolicyParam> policy;
};
bool FromJson(const Json& value, MultipathParams* out);

}  // namespace sma::storage_target::rpc
