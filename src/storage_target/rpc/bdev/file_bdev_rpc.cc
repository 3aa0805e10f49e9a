// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "storage_target/bdev_modules/file/file_bdev.h"
#include "storage_target/rpc/bdev/bdev_rpc.h"
#include "storage_target/rpc/params.h"

namespace sma::storage_target::rpc {
namespace {

using bdev::Registry;
using bdev_file::FileFlavor;
using bdev_file::FileOptions;

RpcResult CreateFileBdev(Registry& registry, const FileOptions& options) {
  auto made = bdev_file::MakeFileBdev(options);
  if (!made.ok()) return ErrnoError(made.error());
  if (int error = registry.Register(std::move(*made)); error != 0) return ErrnoError(error);
  return Json(options.name);
}

RpcResult CreateAio(Registry& registry, const Json& params) {
  FileOptions options;
  options.flavor = FileFlavor::kAio;
  if (!Decode(params,
              {Required("name", &options.name), Required("filename", &options.path),
               Optional("block_size", &options.block_size),
               Optional("readonly", &options.read_only), Optional("uuid", &options.uuid),
               Optional("fallocate", &options.fallocate), Optional("nowait", &options.nowait)})) {
    return DecodeError();
  }
  return CreateFileBdev(registry, options);
}

RpcResult CreateUring(Registry& registry, const Json& params) {
  FileOptions options;
  options.flavor = FileFlavor::kUring;
  if (!Decode(params,
              {Required("name", &options.name), Required("filename", &options.path),
               Optional("block_size", &options.block_size), Optional("uuid", &options.uuid)})) {
    return DecodeError();
  }
  return CreateFileBdev(registry, options);
}

void RegisterFlavor(RpcServer& server, Registry& registry, FileFlavor flavor) {
  const std::string prefix = std::string("bdev_") + FileModuleName(flavor);
  server.RegisterAsync(prefix + "_delete",
                       [&registry, flavor](const Json& params, const Reply& reply) {
                         DeleteBdev(registry, FileModuleName(flavor), params, reply);
                       });
  server.Register(prefix + "_rescan", [&registry, flavor](const Json& params) -> RpcResult {
    std::string name;
    if (!Decode(params, {Required("name", &name)})) return DecodeError();
    return TrueOrErrno(bdev_file::RescanFileBdev(registry, name, flavor));
  });
}

}  // namespace

void RegisterFileBdevRpc(RpcServer& server, Registry& registry) {
  server.Register("bdev_aio_create",
                  [&](const Json& params) { return CreateAio(registry, params); });
  server.Register("bdev_uring_create",
                  [&](const Json& params) { return CreateUring(registry, params); });
  RegisterFlavor(server, registry, FileFlavor::kAio);
  RegisterFlavor(server, registry, FileFlavor::kUring);
}

}  // namespace sma::storage_target::rpc
