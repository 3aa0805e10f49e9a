// SPDX-License-Identifier: Apache-2.0

// Implements bdev_nvme_attach_controller, bdev_nvme_detach_controller, bdev_nvme_get_controllers
// and bdev_nvme_reset_controller.

#include <cerrno>

#include "base/nqn.h"
#include "storage_target/bdev_modules/nvme/driver_info.h"
#include "storage_target/rpc/bdev/bdev_nvme_rpc.h"
#include "storage_target/rpc/bdev_format.h"

namespace sma::storage_target::rpc {
namespace {

using bdev_nvme::AttachOptions;
using bdev_nvme::AttachRefusal;
using bdev_nvme::Multipath;
using bdev_nvme::NvmeModule;
using bdev_nvme::Path;
using bdev_nvme::RemoteSubsystem;
using initiator::Address;

struct MultipathModeParam {
  Multipath mode = Multipath::kMultipath;
};
bool FromJson(const Json& value, MultipathModeParam* out) {
  if (value == "disable") {
    out->mode = Multipath::kDisable;
  } else if (value == "failover") {
    out->mode = Multipath::kFailover;
  } else if (value == "multipath") {
    out->mode = Multipath::kMultipath;
  } else {
    return false;
  }
  return true;
}

struct AttachParams {
  AttachOptions options;
  RemoteParams remote;
  std::string hostaddr;
  std::string hostsvcid = "0";
  ReconnectParams reconnect;
  MultipathModeParam multipath;
  MultipathParams multipath_opts;
  std::optional<std::string> psk;
  std::optional<std::string> dhchap_key;
  std::optional<std::string> dhchap_ctrlr_key;

  bool DecodeFrom(const Json& params) {
    return Decode(params,
                  {Required("name", &options.name),
                   Required("trtype", &remote.trtype),
                   Required("traddr", &remote.traddr),
                   Optional("adrfam", &remote.adrfam),
                   Optional("trsvcid", &remote.trsvcid),
                   Optional("subnqn", &options.subnqn),
                   Optional("hostnqn", &options.hostnqn),
                   Optional("hostaddr", &hostaddr),
                   Optional("hostsvcid", &hostsvcid),
                   Optional("hdgst", &options.header_digest),
                   Optional("ddgst", &options.data_digest),
                   Optional("fabrics_connect_timeout_us", &options.connect_timeout_us),
                   Optional("multipath", &multipath),
                   Optional("multipath_opts", &multipath_opts),
                   Optional("num_io_queues", &options.io_queue_count),
                   Optional("ctrlr_loss_timeout_sec", &reconnect.ctrlr_loss_timeout_sec),
                   Optional("reconnect_delay_sec", &reconnect.reconnect_delay_sec),
                   Optional("fast_io_fail_timeout_sec", &reconnect.fast_io_fail_timeout_sec),
                   Optional("psk", &psk),
                   Optional("dhchap_key", &dhchap_key),
                   Optional("dhchap_ctrlr_key", &dhchap_ctrlr_key),
                   Ignored("priority"),
                   Ignored("prchk_reftag"),
                   Ignored("prchk_guard"),
                   Ignored("max_bdevs"),
                   Ignored("allow_unrecognized_csi"),
                   Ignored("disable_sq_flow_control")});
  }

  /// Validates and combines the decoded parameters; returns the error, or nullopt if they are
  /// valid.
  std::optional<RpcError> Finalize(const NvmeModule& module) {
    if (auto error = remote.Check()) return error;
    // Credentials are not supported: a connection that was to be secured must not be made without
    // them.
    if (psk) return NotSupported("psk");
    if (dhchap_key) return NotSupported("dhchap_key");
    if (dhchap_ctrlr_key) return NotSupported("dhchap_ctrlr_key");
    bool sound = !options.name.empty() && base::IsValidNqn(options.subnqn) &&
                 (options.hostnqn.empty() || base::IsValidNqn(options.hostnqn)) &&
                 options.io_queue_count != 0;
    if (!sound) return ErrnoError(EINVAL);
    options.address = remote.address();
    if (!options.address) return ErrnoError(EIO);
    if (!hostaddr.empty()) {
      options.source = Address::Parse(hostaddr, hostsvcid);
      if (!options.source) return ErrnoError(EINVAL);
    }
    options.multipath = multipath.mode;
    if (multipath_opts.policy) options.policy = multipath_opts.policy->policy;
    options.reconnect = reconnect.WithDefaults(module.options().reconnect);
    return std::nullopt;
  }
};

RpcError RefusalError(AttachRefusal refusal, const NvmeModule& module, const std::string& name) {
  const std::string exists = "A controller named " + name + " already exists ";
  switch (refusal) {
    case AttachRefusal::kSamePath:
      return ErrnoError(EALREADY, exists + "with the specified network path");
    case AttachRefusal::kMultipathDisabled:
      return ErrnoError(EALREADY, exists + "and multipath is disabled");
    case AttachRefusal::kOtherSubnqn:
      return ErrnoError(
          EINVAL, exists + "and uses a different subnqn (" + module.Find(name)->subnqn() + ")");
    case AttachRefusal::kOtherHostnqn:
      return ErrnoError(
          EINVAL, exists + "and uses a different hostnqn (" + module.Find(name)->hostnqn() + ")");
    case AttachRefusal::kDetaching:
      return ErrnoError(EBUSY);
    case AttachRefusal::kReconnectOptions:
    case AttachRefusal::kNone:
      break;
  }
  return ErrnoError(EINVAL);
}

void Attach(NvmeModule& module, const Json& params, const Reply& reply) {
  AttachParams attach;
  if (!attach.DecodeFrom(params)) return reply(DecodeError());
  if (auto error = attach.Finalize(module)) return reply(*error);
  AttachRefusal refusal =
      module.Attach(attach.options, [reply](base::ErrnoOr<std::vector<std::string>> names) {
        if (!names.ok()) return reply(ErrnoError(names.error()));
        reply(Json(*names));
      });
  if (refusal != AttachRefusal::kNone) {
    reply(RefusalError(refusal, module, attach.options.name));
  }
}

void Detach(NvmeModule& module, const Json& params, const Reply& reply) {
  std::string name;
  RemoteParams remote;
  std::optional<std::string> subnqn;
  if (!Decode(params, {Required("name", &name), Optional("trtype", &remote.trtype),
                       Optional("traddr", &remote.traddr), Optional("adrfam", &remote.adrfam),
                       Optional("trsvcid", &remote.trsvcid), Optional("subnqn", &subnqn),
                       Ignored("hostaddr"), Ignored("hostsvcid")})) {
    return reply(DecodeError());
  }
  NvmeModule::DetachFilter filter{.subnqn = subnqn};
  if (!remote.traddr.empty()) {
    filter.address = remote.address();
    if (!filter.address) return reply(ErrnoError(ENODEV));
  }
  int error = module.Detach(name, filter, [reply] { reply(Json(true)); });
  if (error != 0) reply(ErrnoError(error));
}

Json FormatPath(const Path& path) {
  const initiator::Association& association = path.association();
  const auto& source = association.source;
  Json json{{"state", bdev_nvme::StateName(path.state())},
            {"trid", ToJson(bdev_nvme::TransportId(association.address, association.subnqn))},
            {"cntlid", path.info().controller_id},
            {"host",
             {{"nqn", association.hostnqn},
              {"addr", source ? source->ip.ToString() : ""},
              {"svcid", source && source->port != 0 ? std::to_string(source->port) : ""},
              {"no_shn_notification", false}}}};
  for (const Address& address : path.options().alternatives) {
    json["alternate_trids"].push_back(ToJson(bdev_nvme::TransportId(address, association.subnqn)));
  }
  return json;
}

Json FormatSubsystem(const RemoteSubsystem& subsystem) {
  Json paths = Json::array();
  for (const Path* path : subsystem.paths()) paths.push_back(FormatPath(*path));
  return {{"name", subsystem.name()}, {"ctrlrs", std::move(paths)}};
}

RpcResult GetNvmeControllers(const NvmeModule& module, const Json& params) {
  std::optional<std::string> name;
  if (!Decode(params, {Optional("name", &name)})) return DecodeError();
  Json list = Json::array();
  for (const RemoteSubsystem* subsystem : module.List()) {
    if (!name || *name == subsystem->name()) list.push_back(FormatSubsystem(*subsystem));
  }
  if (name && list.empty()) return ErrnoError(ENODEV);
  return list;
}

void Reset(NvmeModule& module, const Json& params, const Reply& reply) {
  std::string name;
  if (!Decode(params, {Required("name", &name), Ignored("cntlid")})) return reply(DecodeError());
  RemoteSubsystem* subsystem = module.Find(name);
  if (subsystem == nullptr) return reply(ErrnoError(ENODEV));
  subsystem->Reset([reply](int error) { reply(TrueOrErrno(error)); });
}

}  // namespace

void RegisterBdevNvmeControllerRpc(RpcServer& server, NvmeModule& module) {
  server.RegisterAsync("bdev_nvme_attach_controller", [&](const Json& params, const Reply& reply) {
    Attach(module, params, reply);
  });
  server.RegisterAsync("bdev_nvme_detach_controller", [&](const Json& params, const Reply& reply) {
    Detach(module, params, reply);
  });
  server.Register("bdev_nvme_get_controllers",
                  [&](const Json& params) { return GetNvmeControllers(module, params); });
  server.RegisterAsync("bdev_nvme_reset_controller", [&](const Json& params, const Reply& reply) {
    Reset(module, params, reply);
  });
}

}  // namespace sma::storage_target::rpc
