// SPDX-License-Identifier: Apache-2.0

#include <cerrno>
#include <string>

#include "storage_target/bdev_modules/malloc/malloc_bdev.h"
#include "storage_target/bdev_modules/null/null_bdev.h"
#include "storage_target/rpc/bdev/bdev_rpc.h"
#include "storage_target/rpc/bdev_format.h"
#include "storage_target/rpc/params.h"

namespace sma::storage_target::rpc {
namespace {

using bdev::Bdev;
using bdev::Registry;

/// Registers `bdev` and returns its name.
RpcResult RegisterAndName(Registry& registry, std::unique_ptr<Bdev> bdev) {
  std::string name = bdev->name();
  int error = registry.Register(std::move(bdev));
  if (error != 0) return ErrnoError(error);
  return Json(name);
}

RpcResult CreateNull(Registry& registry, const Json& params) {
  Bdev::Info info;
  uint32_t metadata_size = 0;
  uint32_t dif_type = 0;
  if (!Decode(params, {Required("name", &info.name), Required("num_blocks", &info.block_count),
                       Required("block_size", &info.block_size), Optional("uuid", &info.uuid),
                       Optional("preferred_write_alignment", &info.write_alignment),
                       Optional("preferred_write_granularity", &info.write_granularity),
                       Optional("optimal_write_size", &info.optimal_write_size),
                       Optional("preferred_unmap_alignment", &info.unmap_alignment),
                       Optional("preferred_unmap_granularity", &info.unmap_granularity),
                       Optional("md_size", &metadata_size), Optional("dif_type", &dif_type),
                       Ignored("physical_block_size"), Ignored("dif_is_head_of_md"),
                       Ignored("dif_pi_format")})) {
    return DecodeError();
  }
  if (metadata_size != 0) return NotSupported("md_size");
  if (dif_type != 0) return NotSupported("dif_type");
  return RegisterAndName(registry, bdev_null::MakeNullBdev(std::move(info)));
}

RpcResult ResizeNull(Registry& registry, const Json& params) {
  std::string name;
  uint64_t new_size_mib = 0;
  if (!Decode(params, {Required("name", &name), Required("new_size", &new_size_mib)})) {
    return DecodeError();
  }
  Bdev* bdev = registry.Find(name);
  if (bdev == nullptr || bdev->module() != bdev_null::kNullModule) return ErrnoError(ENODEV);
  if (new_size_mib > UINT64_MAX / kBytesPerMib) return ErrnoError(EINVAL);
  uint64_t block_count = new_size_mib * kBytesPerMib / bdev->block_size();
  if (block_count < bdev->block_count()) return ErrnoError(EINVAL);
  return TrueOrErrno(registry.Resize(*bdev, block_count));
}

RpcResult CreateMalloc(Registry& registry, const Json& params) {
  Bdev::Info info;
  uint32_t metadata_size = 0;
  uint32_t dif_type = 0;
  if (!Decode(params, {Optional("name", &info.name), Required("num_blocks", &info.block_count),
                       Required("block_size", &info.block_size), Optional("uuid", &info.uuid),
                       Optional("md_size", &metadata_size), Optional("dif_type", &dif_type),
                       Ignored("physical_block_size"), Ignored("optimal_io_boundary"),
                       Ignored("md_interleave"), Ignored("dif_is_head_of_md"),
                       Ignored("dif_pi_format"), Ignored("numa_id")})) {
    return DecodeError();
  }
  if (metadata_size != 0) return NotSupported("md_size");
  if (dif_type != 0) return NotSupported("dif_type");
  auto made = bdev_malloc::MakeMallocBdev(std::move(info));
  if (!made.ok()) return ErrnoError(made.error());
  return RegisterAndName(registry, std::move(*made));
}

}  // namespace

void RegisterNullBdevRpc(RpcServer& server, Registry& registry) {
  server.Register("bdev_null_create",
                  [&](const Json& params) { return CreateNull(registry, params); });
  server.Register("bdev_null_resize",
                  [&](const Json& params) { return ResizeNull(registry, params); });
  server.RegisterAsync("bdev_null_delete", [&](const Json& params, const Reply& reply) {
    DeleteBdev(registry, bdev_null::kNullModule, params, reply);
  });
}

void RegisterMallocBdevRpc(RpcServer& server, Registry& registry) {
  server.Register("bdev_malloc_create",
                  [&](const Json& params) { return CreateMalloc(registry, params); });
  server.RegisterAsync("bdev_malloc_delete", [&](const Json& params, const Reply& reply) {
    DeleteBdev(registry, bdev_malloc::kMallocModule, params, reply);
  });
}

}  // namespace sma::storage_target::rpc
