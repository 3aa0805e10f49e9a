#include <string>

#include "target/rpc/bdev_rpc.h"
#include "target/rpc/params.h"

namespace sma::target::rpc {

void RegisterPassthruBdevRpc(RpcServer& server, bdev_modules::PassthruModule& module) {
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
    std::string name;
    if (!Decode(params, {Required("name", &name)})) return reply(DecodeError());
    int error = module.Delete(name, [reply] { reply(Json(true)); });
    if (error != 0) reply(ErrnoError(error));
  });
}

}  // namespace sma::target::rpc
