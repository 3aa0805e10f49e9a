// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "storage_target/rpc/params.h"
#include "storage_target/rpc/rpc_server.h"

namespace sma::storage_target::rpc {

/// Implements bdev_MODULE_delete for a module that deletes its bdevs itself: replies with true when
/// the bdev that `params` names no longer exists.
template <typename Module>
void DeleteFrom(Module& module, const Json& params, const Reply& reply) {
  std::string name;
  if (!Decode(params, {Required("name", &name)})) return reply(DecodeError());
  const int error = module.Delete(name, [reply] { reply(Json(true)); });
  if (error != 0) reply(ErrnoError(error));
}

}  // namespace sma::storage_target::rpc
