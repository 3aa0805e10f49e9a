// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/bdev/iscsi_rpc.h"

#include <iscsi/iscsi.h>

#include <cerrno>
#include <string>

#include "storage_target/rpc/bdev/delete_from.h"
#include "storage_target/rpc/params.h"

namespace sma::storage_target::rpc {
namespace {

using bdev_iscsi::IscsiModule;

// SPDK reports the status with which libiscsi ends a failed attempt.
RpcError CreateError(int error) {
  if (error != EIO) return ErrnoError(error);
  return InvalidParams("iSCSI error (" + std::to_string(SCSI_STATUS_ERROR) + ").");
}

void Create(IscsiModule& module, const Json& params, const Reply& reply) {
  IscsiModule::CreateOptions options;
  if (!Decode(params, {Required("name", &options.name), Required("url", &options.url),
                       Required("initiator_iqn", &options.initiator_iqn)})) {
    return reply(DecodeError());
  }
  module.Create(options, [reply](base::ErrnoOr<std::string> name) {
    if (!name.ok()) return reply(CreateError(name.error()));
    reply(Json(*name));
  });
}

RpcResult SetOptions(IscsiModule& module, const Json& params) {
  auto timeout_sec = static_cast<uint32_t>(module.options().timeout.count());
  if (!Decode(params, {Optional("timeout_sec", &timeout_sec)})) return DecodeError();
  module.SetOptions({.timeout = std::chrono::seconds(timeout_sec)});
  return Json(true);
}

}  // namespace

void RegisterIscsiRpc(RpcServer& server, IscsiModule& module) {
  server.RegisterAsync("bdev_iscsi_create", [&](const Json& params, const Reply& reply) {
    Create(module, params, reply);
  });
  server.RegisterAsync("bdev_iscsi_delete", [&](const Json& params, const Reply& reply) {
    DeleteFrom(module, params, reply);
  });
  server.Register(
      "bdev_iscsi_set_options", [&](const Json& params) { return SetOptions(module, params); },
      Phase::kAny);
}

}  // namespace sma::storage_target::rpc
