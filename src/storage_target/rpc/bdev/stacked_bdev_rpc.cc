// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "storage_target/rpc/bdev/bdev_rpc.h"
#include "storage_target/rpc/bdev/delete_from.h"
#include "storage_target/rpc/params.h"

namespace sma::storage_target::rpc {

void RegisterPassthruBdevRpc(RpcServer& server, bdev_passthru::PassthruModule& module) {
  server.Register("bdev_passthru_create", [&](const Json& params) -> RpcResult {
    std::string name;
    std::string base_name;
    base::Uuid uuid;
    if (!Decode(params, {Required("name", &name), Required("base_bdev_name", &base_name),
                         Optional("uuid", &uuid)})) {
      return DecodeError();
    }
    if (int error = module.Create(name, base_name, uuid); error != 0) return ErrnoError(error);
    return Json(name);
  });
  server.RegisterAsync("bdev_passthru_delete", [&](const Json& params, const Reply& reply) {
    DeleteFrom(module, params, reply);
  });
}

}  // namespace sma::storage_target::rpc
