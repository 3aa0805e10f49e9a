// SPDX-License-Identifier: Apache-2.0

// Implements the bdevs of the simulated target: local and iSCSI disks, descriptions, limits,
// events.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "agent/spdk/json_read.h"
#include "base/strings.h"
#include "worlds/sim_spdk.h"

namespace sma::worlds {

using jsonrpc::Json;
using spdk::StringMember;
using spdk::UintMember;

namespace {

constexpr const char* kLimits[] = {"rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec",
                                   "w_mbytes_per_sec"};
constexpr char kIscsi[] = "iSCSI LUN";
constexpr size_t kMaxEvents = 1024;

// Returns the URL without CHAP parameters.
std::string UnitUrl(std::string url) {
  if (const size_t query = url.find('?'); query != std::string::npos) url.resize(query);
  const size_t login = url.find('@');
  const size_t host = url.find("//");
  if (login != std::string::npos && host != std::string::npos)
    url.erase(host + 2, login - host - 1);
  return url;
}

}  // namespace

SimBdev* SimSpdk::FindBdev(const std::string& name_or_uuid) {
  auto found = bdevs.find(name_or_uuid);
  if (found != bdevs.end()) return &found->second;
  const std::string uuid = base::ToLower(name_or_uuid);
  for (auto& [name, bdev] : bdevs) {
    if (bdev.uuid == uuid) return &bdev;
  }
  return nullptr;
}

void SimSpdk::AddEvent(const char* type, const std::string& bdev) {
  if (events_.size() == kMaxEvents) events_.pop_front();
  events_.push_back({{"type", type}, {"ctx", bdev}, {"id", next_event_++}});
}

// Adds a bdev. Returns false if the name or the UUID is already used, since the UUID is an alias
// and aliases are unique.
bool SimSpdk::AddBdev(SimBdev bdev) {
  if (FindBdev(bdev.name) != nullptr || FindBdev(bdev.uuid) != nullptr) return false;
  const std::string name = bdev.name;
  bdev.born = round_trips_;
  bdevs[name] = std::move(bdev);
  AddEvent("bdev_register", name);
  // Crypto bdevs that were requested before their base existed are created together with it.
  MakeCryptoBdevs(name).IgnoreError();
  return true;
}

void SimSpdk::RemoveBdev(const std::string& name) {
  std::vector<std::string> layers;
  for (const auto& [other, bdev] : bdevs) {
    if (bdev.base == name) layers.push_back(other);
  }
  for (const std::string& layer : layers) RemoveBdev(layer);
  for (auto& [nqn, subsystem] : subsystems) {
    std::erase_if(subsystem.namespaces,
                  [&](const auto& entry) { return entry.second.bdev == name; });
  }
  for (auto& [controller, vhost] : vhosts) {
    if (vhost.bdev == name) vhost.bdev.clear();
  }
  bdevs.erase(name);
  AddEvent("bdev_unregister", name);
}

void SimSpdk::AddLocalBdev(const std::string& uuid, const std::string& medium) {
  AddBdev({.name = "local-" + uuid,
           .uuid = uuid,
           .product_name = "Null disk",
           .contents = {.medium = medium.empty() ? uuid : medium, .key = ""}});
}

SimSpdk::Answer SimSpdk::CreateDisk(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  const std::string uuid = StringMember(params, "uuid").value_or("");
  SimBdev bdev{.name = name,
               .uuid = base::ToLower(uuid),
               .product_name = "Null disk",
               .owner = caller_,
               .contents = {.medium = StringMember(params, "medium").value_or(uuid), .key = ""}};
  if (!AddBdev(std::move(bdev))) return SimError(-EEXIST, "File exists");
  return name;
}

SimSpdk::Answer SimSpdk::DeleteDisk(const Json& params) {
  SimBdev* bdev = FindBdev(StringMember(params, "name").value_or(""));
  if (bdev == nullptr) return SimNoSuchDevice();
  JudgeTouch("deleted bdev " + bdev->name, bdev->owner);
  RemoveBdev(std::string(bdev->name));
  return true;
}

Json SimSpdk::Describe(SimBdev& bdev) {
  Json limits = Json::object();
  for (const char* limit : kLimits) limits[limit] = bdev.limits[limit];
  Json entry{{"name", bdev.name},
             {"aliases", {bdev.uuid}},
             {"product_name", bdev.product_name},
             {"block_size", 4096},
             {"num_blocks", 32768},
             {"uuid", bdev.uuid},
             {"assigned_rate_limits", std::move(limits)},
             {"claimed", !bdev.claimed_by.empty()},
             {"zoned", false},
             {"driver_specific", Json::object()}};
  if (!bdev.claimed_by.empty()) entry["claim_type"] = "exclusive_write";
  if (!bdev.base.empty()) {
    entry["driver_specific"]["crypto"] = {
        {"base_bdev_name", bdev.base}, {"name", bdev.name}, {"key_name", bdev.key_name}};
  }
  if (!bdev.controller.empty()) {
    Json paths = Json::array();
    const SimController& controller = controllers.at(bdev.controller);
    const bool is_complete = bdev.age >= options.incomplete_descriptions;
    for (size_t i = 0; is_complete && i < controller.paths.size(); ++i) {
      const NodeAddress& address = controller.paths[i].address;
      paths.push_back({{"trid",
                        {{"trtype", "TCP"},
                         {"adrfam", "IPv4"},
                         {"traddr", address.traddr},
                         {"trsvcid", address.trsvcid},
                         {"subnqn", controller.subnqn}}},
                       {"ns_data", {{"id", bdev.remote_nsid}, {"can_share", true}}}});
    }
    entry["driver_specific"] = {{"nvme", std::move(paths)}, {"mp_policy", "active_passive"}};
  }
  ++bdev.age;
  return entry;
}

SimSpdk::Answer SimSpdk::GetBdevs(const Json& params) {
  std::optional<std::string> name = StringMember(params, "name");
  const bool waits = params.contains("timeout");
  if (waits) FinishDiscovery();
  SimBdev* only = name ? FindBdev(*name) : nullptr;
  if (name && only == nullptr) {
    return waits ? SimError(-ETIMEDOUT, "Connection timed out") : SimNoSuchDevice();
  }
  Json result = Json::array();
  for (auto& [bdev_name, bdev] : bdevs) {
    if (only == nullptr || only == &bdev) result.push_back(Describe(bdev));
  }
  return result;
}

SimSpdk::Answer SimSpdk::SetQosLimit(const Json& params) {
  SimBdev* bdev = FindBdev(StringMember(params, "name").value_or(""));
  if (bdev == nullptr) return SimNoSuchDevice();
  auto holder = subsystems.find(bdev->claimed_by);
  // vhost controllers claim no bdev: another owner may have claimed it after the agent's device.
  const bool has_vhost = std::any_of(vhosts.begin(), vhosts.end(), [&](const auto& entry) {
    return entry.second.owner == Owner::kAgent && entry.second.bdev == bdev->name;
  });
  const bool is_others = holder != subsystems.end() && holder->second.owner != Owner::kAgent &&
                         !holder->second.is_adoptable && !has_vhost;
  JudgeTouch("set limits of bdev " + bdev->name, is_others ? Owner::kOthers : Owner::kAgent);
  bool any = false;
  for (const char* limit : kLimits) {
    if (std::optional<uint64_t> value = UintMember(params, limit)) {
      bdev->limits[limit] = *value;
      any = true;
    }
  }
  bdev->limits_owner = caller_;
  if (!any) return SimError(-EINVAL, "No rate limits specified");
  return true;
}

SimSpdk::Answer SimSpdk::GetNotifications(const Json& params) {
  const uint64_t first = UintMember(params, "id").value_or(0);
  const uint64_t max = UintMember(params, "max").value_or(UINT64_MAX);
  Json list = Json::array();
  for (const Json& event : events_) {
    if (list.size() < max && event["id"].get<uint64_t>() >= first) list.push_back(event);
  }
  return list;
}

SimSpdk::Answer SimSpdk::CreateIscsi(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  auto unit = storage_.iscsi_units.find(UnitUrl(StringMember(params, "url").value_or("")));
  if (unit == storage_.iscsi_units.end() || !storage_.iscsi_up) {
    return SimError(jsonrpc::kInvalidParams, "iSCSI error (251658241).");
  }
  SimBdev bdev{.name = name,
               .uuid = fmt::format("15c51000-0000-4000-8000-{:012d}", next_iscsi_uuid_++),
               .product_name = kIscsi,
               .owner = caller_,
               .contents = {.medium = unit->second, .key = ""}};
  if (!AddBdev(std::move(bdev))) return SimError(-EEXIST, "File exists");
  return name;
}

SimSpdk::Answer SimSpdk::DeleteIscsi(const Json& params) {
  SimBdev* bdev = FindBdev(StringMember(params, "name").value_or(""));
  if (bdev == nullptr || bdev->product_name != kIscsi) return SimNoSuchDevice();
  JudgeTouch("deleted iSCSI bdev " + bdev->name, bdev->owner);
  RemoveBdev(std::string(bdev->name));
  return true;
}

}  // namespace sma::worlds
