// SPDX-License-Identifier: Apache-2.0

// Parameters that several bdev_nvme_* methods have in common.

#include <strings.h>

#include <cerrno>

#include "storage_target/rpc/bdev/bdev_nvme_rpc.h"

namespace sma::storage_target::rpc {

using bdev_nvme::MultipathPolicy;
using bdev_nvme::ReconnectOptions;
using initiator::Address;

namespace {

bool EqualIgnoringCase(const std::string& a, const char* b) {
  return ::strcasecmp(a.c_str(), b) == 0;
}

}  // namespace

void RegisterBdevNvmeRpc(RpcServer& server, bdev_nvme::NvmeModule& module) {
  RegisterBdevNvmeOptionsRpc(server, module);
  RegisterBdevNvmeControllerRpc(server, module);
  RegisterBdevNvmeDiscoveryRpc(server, module);
}

std::optional<RpcError> RemoteParams::Check() const {
  if (!EqualIgnoringCase(trtype, "tcp")) {
    return ErrnoError(EINVAL, "Failed to parse trtype: " + trtype);
  }
  bool known_family =
      adrfam.empty() || EqualIgnoringCase(adrfam, "ipv4") || EqualIgnoringCase(adrfam, "ipv6");
  if (!known_family) return ErrnoError(EINVAL, "Failed to parse adrfam: " + adrfam);
  return std::nullopt;
}

std::optional<Address> RemoteParams::address() const { return Address::Parse(traddr, trsvcid); }

std::optional<ReconnectOptions> ReconnectParams::WithDefaults(
    const ReconnectOptions& module) const {
  if (!ctrlr_loss_timeout_sec && !reconnect_delay_sec && !fast_io_fail_timeout_sec) {
    return std::nullopt;
  }
  // A client that sets one of these two expects that the others have SPDK's defaults, which are
  // zero, instead of the module's values.
  ReconnectOptions options = module;
  if (ctrlr_loss_timeout_sec || reconnect_delay_sec) options = {0, 0, 0};
  options.ctrlr_loss_timeout_sec = ctrlr_loss_timeout_sec.value_or(options.ctrlr_loss_timeout_sec);
  options.reconnect_delay_sec = reconnect_delay_sec.value_or(options.reconnect_delay_sec);
  options.fast_io_fail_timeout_sec =
      fast_io_fail_timeout_sec.value_or(options.fast_io_fail_timeout_sec);
  return options;
}

bool FromJson(const Json& value, PolicyParam* out) {
  if (value != "active_passive" && value != "active_active") return false;
  out->policy =
      value == "active_active" ? MultipathPolicy::kActiveActive : MultipathPolicy::kActivePassive;
  return true;
}

bool FromJson(const Json& value, MultipathParams* out) {
  return Decode(value, {Optional("policy", &out->policy), Ignored("selector"), Ignored("min_io")});
}

}  // namespace sma::storage_target::rpc
