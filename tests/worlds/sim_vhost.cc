// SPDX-License-Identifier: Apache-2.0

// Implements the vhost controllers of the simulated target.

#include "agent/spdk/json_read.h"
#include "worlds/sim_spdk.h"

namespace sma::worlds {

using jsonrpc::Json;
using spdk::StringMember;

namespace {

absl::Status InvalidParams(const char* message) {
  return SimError(jsonrpc::kInvalidParams, message);
}

}  // namespace

SimSpdk::Answer SimSpdk::CreateVhost(const Json& params) {
  const std::string name = StringMember(params, "ctrlr").value_or("");
  if (vhosts.contains(name)) return InvalidParams("File exists");
  const SimBdev* bdev = FindBdev(StringMember(params, "dev_name").value_or(""));
  if (bdev == nullptr) return InvalidParams("No such device");
  if (!bdev->claimed_by.empty()) return InvalidParams("Operation not permitted");
  vhosts[name] = {.bdev = bdev->name, .owner = caller_};
  return true;
}

SimSpdk::Answer SimSpdk::GetVhosts(const Json& params) {
  std::optional<std::string> only = StringMember(params, "name");
  if (only && !vhosts.contains(*only)) return SimError(jsonrpc::kInternalError, "No such device");
  Json result = Json::array();
  for (const auto& [name, vhost] : vhosts) {
    if (only && name != *only) continue;
    Json entry{{"ctrlr", name},
               {"cpumask", "0x1"},
               {"delay_base_us", 0},
               {"iops_threshold", 60000},
               {"socket", "/var/tmp/" + name},
               {"sessions", Json::array()}};
    entry["backend_specific"]["block"] = {{"readonly", false},
                                          {"bdev", vhost.bdev.empty() ? Json() : Json(vhost.bdev)},
                                          {"transport", "vhost_user_blk"}};
    const int sessions = vhost_sessions ? vhost_sessions(name) : 0;
    for (int i = 0; i < sessions; ++i) {
      entry["sessions"].push_back({{"vid", i}, {"started", true}});
    }
    result.push_back(std::move(entry));
  }
  return result;
}

SimSpdk::Answer SimSpdk::DeleteVhost(const Json& params) {
  auto found = vhosts.find(StringMember(params, "ctrlr").value_or(""));
  if (found == vhosts.end()) return InvalidParams("No such device");
  if (vhost_sessions && vhost_sessions(found->first) > 0) {
    return InvalidParams("Device or resource busy");
  }
  JudgeTouch("deleted vhost controller " + found->first, found->second.owner);
  vhosts.erase(found);
  return true;
}

}  // namespace sma::worlds
