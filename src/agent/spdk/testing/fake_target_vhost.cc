// SPDX-License-Identifier: Apache-2.0

#include <cerrno>

#include "agent/spdk/json_read.h"
#include "agent/spdk/testing/fake_target.h"
#include "jsonrpc/protocol.h"

namespace sma::spdk {

using base::MutexLock;
using jsonrpc::Json;

namespace {

absl::Status InvalidParams(const char* message) {
  return FakeError(jsonrpc::kInvalidParams, message);
}

}  // namespace

FakeTarget::Answer FakeTarget::CreateVhostBlk(const Json& params) {
  std::optional<std::string> name = StringMember(params, "ctrlr");
  std::optional<std::string> bdev_name = StringMember(params, "dev_name");
  if (!name || !bdev_name) return InvalidParams("Invalid argument");
  if (vhost_controllers_.contains(*name)) return InvalidParams("File exists");
  const Bdev* bdev = FindBdev(*bdev_name);
  if (bdev == nullptr) return InvalidParams("No such device");
  if (bdev->claimed) return InvalidParams("Operation not permitted");
  vhost_controllers_[*name] = {.bdev_name = bdev->name};
  return true;
}

FakeTarget::Answer FakeTarget::GetVhostControllers(const Json& params) {
  std::optional<std::string> only = StringMember(params, "name");
  if (only && !vhost_controllers_.contains(*only)) {
    return FakeError(jsonrpc::kInternalError, "No such device");
  }
  Json result = Json::array();
  for (const auto& [name, controller] : vhost_controllers_) {
    if (only && name != *only) continue;
    Json bdev = controller.bdev_name.empty() ? Json() : Json(controller.bdev_name);
    result.push_back(
        {{"ctrlr", name},
         {"cpumask", "0x1"},
         {"delay_base_us", 0},
         {"iops_threshold", 60000},
         {"socket", "/var/tmp/" + name},
         {"sessions", Json::array()},
         {"backend_specific",
          {{"block",
            {{"readonly", false}, {"bdev", std::move(bdev)}, {"transport", "vhost_user_blk"}}}}}});
    for (int i = 0; i < SessionsOf(name); ++i) {
      result.back()["sessions"].push_back({{"vid", i}, {"started", true}});
    }
  }
  return result;
}

FakeTarget::Answer FakeTarget::DeleteVhostController(const Json& params) {
  auto found = vhost_controllers_.find(StringMember(params, "ctrlr").value_or(""));
  if (found == vhost_controllers_.end()) return InvalidParams("No such device");
  if (SessionsOf(found->first) > 0) return InvalidParams("Device or resource busy");
  vhost_controllers_.erase(found);
  return true;
}

int FakeTarget::SessionsOf(const std::string& controller) {
  const int connected = vhost_controllers_.at(controller).session_count;
  return session_source_ ? connected + session_source_(controller) : connected;
}

void FakeTarget::SetSessionSource(std::function<int(const std::string&)> source) {
  MutexLock lock(mutex_);
  session_source_ = std::move(source);
}

void FakeTarget::SetVhostSessions(std::string_view controller, int count) {
  MutexLock lock(mutex_);
  auto found = vhost_controllers_.find(std::string(controller));
  if (found != vhost_controllers_.end()) found->second.session_count = count;
}

}  // namespace sma::spdk
