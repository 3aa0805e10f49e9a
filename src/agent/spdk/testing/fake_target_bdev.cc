// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/spdk/json_read.h"
#include "agent/spdk/testing/fake_target.h"
#include "base/strings.h"
#include "base/uuid.h"

namespace sma::spdk {

using base::MutexLock;
using jsonrpc::Json;

namespace {

constexpr const char* kLimitNames[] = {"rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec",
                                       "w_mbytes_per_sec"};

}  // namespace

FakeTarget::Bdev* FakeTarget::FindBdev(std::string_view name) {
  auto found = bdevs_.find(std::string(name));
  if (found != bdevs_.end()) return &found->second;
  const std::string uuid = base::ToLower(name);
  for (auto& [other, bdev] : bdevs_) {
    if (bdev.uuid == uuid) return &bdev;
  }
  return nullptr;
}

FakeTarget::Answer FakeTarget::CreateNullBdev(const Json& params) {
  return CreateBdev(params, "Null disk");
}

FakeTarget::Answer FakeTarget::CreateMallocBdev(const Json& params) {
  return CreateBdev(params, "Malloc disk");
}

FakeTarget::Answer FakeTarget::CreateBdev(const Json& params, std::string_view product) {
  std::optional<std::string> name = StringMember(params, "name");
  std::optional<uint64_t> block_count = UintMember(params, "num_blocks");
  std::optional<uint64_t> block_size = UintMember(params, "block_size");
  if (!block_count || !block_size) return FakeDecodeFailed();
  if (*block_count == 0 || *block_size % 512 != 0) return FakeError(-EINVAL, "Invalid argument");
  if (!name) return FakeError(-EEXIST, "File exists");
  std::string uuid =
      base::ToLower(StringMember(params, "uuid").value_or(base::Uuid::Random().ToString()));
  if (FindBdev(*name) != nullptr || FindBdev(uuid) != nullptr) {
    return FakeError(-EEXIST, "File exists");
  }
  bdevs_[*name] = {.name = *name,
                   .uuid = uuid,
                   .product_name = std::string(product),
                   .block_size = *block_size,
                   .block_count = *block_count};
  MakeCryptoBdevs(*name).IgnoreError();
  bdevs_changed_.NotifyAll();
  return *name;
}

FakeTarget::Answer FakeTarget::DeleteBdev(const Json& params) {
  Bdev* bdev = FindBdev(StringMember(params, "name").value_or(""));
  if (bdev == nullptr) return FakeError(-ENODEV, "No such device");
  RemoveBdev(std::string(bdev->name));
  return true;
}

void FakeTarget::RemoveBdev(const std::string& name) {
  RemoveCryptoBdevsOf(name);
  for (auto& [nqn, subsystem] : subsystems_) {
    std::erase_if(subsystem.namespaces,
                  [&name](const auto& entry) { return entry.second.bdev_name == name; });
  }
  for (auto& [controller_name, controller] : vhost_controllers_) {
    if (controller.bdev_name == name) controller.bdev_name.clear();
  }
  bdevs_.erase(name);
}

FakeTarget::Answer FakeTarget::GetBdevs(const Json& params) {
  for (const auto& [member, value] : params.items()) {
    if (member != "name" && member != "timeout") return FakeDecodeFailed();
  }
  std::optional<std::string> name = StringMember(params, "name");
  const Bdev* only = name ? FindBdev(*name) : nullptr;
  if (name && only == nullptr) {
    return params.contains("timeout") ? FakeError(-ETIMEDOUT, "Connection timed out")
                                      : FakeError(-ENODEV, "No such device");
  }
  Json result = Json::array();
  for (const auto& [bdev_name, bdev] : bdevs_) {
    if (only != nullptr && only != &bdev) continue;
    Json limits = Json::object();
    for (const char* limit : kLimitNames) {
      auto found = bdev.limits.find(limit);
      limits[limit] = found == bdev.limits.end() ? 0 : found->second;
    }
    Json entry{{"name", bdev.name},
               {"aliases", {bdev.uuid}},
               {"product_name", bdev.product_name},
               {"block_size", bdev.block_size},
               {"num_blocks", bdev.block_count},
               {"uuid", bdev.uuid},
               {"assigned_rate_limits", std::move(limits)},
               {"claimed", bdev.claimed},
               {"zoned", false},
               {"driver_specific", DriverSpecific(bdev)}};
    if (bdev.claimed) entry["claim_type"] = "exclusive_write";
    result.push_back(std::move(entry));
  }
  return result;
}

FakeTarget::Answer FakeTarget::SetQosLimit(const Json& params) {
  Bdev* bdev = FindBdev(StringMember(params, "name").value_or(""));
  if (bdev == nullptr) return FakeError(-ENODEV, "No such device");
  bool named = false;
  for (const char* limit : kLimitNames) {
    if (std::optional<uint64_t> value = UintMember(params, limit)) {
      bdev->limits[limit] = *value;
      named = true;
    }
  }
  return named ? Answer(true) : FakeError(-EINVAL, "No rate limits specified");
}

void FakeTarget::AddBdev(std::string_view uuid) {
  Operator("bdev_null_create", {{"name", std::string("null-").append(uuid)},
                                {"num_blocks", 1024},
                                {"block_size", 4096},
                                {"uuid", uuid}})
      .IgnoreError();
}

std::string FakeTarget::Dump() {
  Json dump{{"subsystems", *Operator("nvmf_get_subsystems")},
            {"bdevs", *Operator("bdev_get_bdevs")},
            {"vhost_controllers", *Operator("vhost_get_controllers")},
            {"transports", *Operator("nvmf_get_transports")},
            {"discovery", *Operator("bdev_nvme_get_discovery_info")},
            {"controllers", *Operator("bdev_nvme_get_controllers")}};
  for (Json& subsystem : dump["subsystems"]) {
    std::sort(subsystem["hosts"].begin(), subsystem["hosts"].end());
    std::sort(subsystem["listen_addresses"].begin(), subsystem["listen_addresses"].end());
  }
  return dump.dump(1);
}

}  // namespace sma::spdk
