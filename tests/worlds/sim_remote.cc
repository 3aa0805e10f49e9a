// SPDX-License-Identifier: Apache-2.0

// Implements the NVMe-oF host of the simulated target: discovery services and controllers, as in
// SPDK's bdev_nvme.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "agent/spdk/json_read.h"
#include "worlds/sim_spdk.h"

namespace sma::worlds {

using jsonrpc::Json;
using spdk::StringMember;

namespace {

constexpr char kDiscoveryNqn[] = "nqn.2014-08.org.nvmexpress.discovery";

Json Trid(const NodeAddress& address, const std::string& nqn) {
  return {{"trtype", "TCP"},
          {"adrfam", "IPv4"},
          {"traddr", address.traddr},
          {"trsvcid", address.trsvcid},
          {"subnqn", nqn}};
}

NodeAddress AddressOf(const Json& params) {
  return {.traddr = StringMember(params, "traddr").value_or(""),
          .trsvcid = StringMember(params, "trsvcid").value_or("")};
}

}  // namespace

SimSpdk::Answer SimSpdk::StartDiscovery(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  const NodeAddress address = AddressOf(params);
  for (const auto& [other, service] : services) {
    const bool is_referral = std::find(service.referrals.begin(), service.referrals.end(),
                                       address) != service.referrals.end();
    if (other == name || service.address == address || is_referral) {
      return SimError(-EEXIST, "File exists");
    }
  }
  services[name] = {.address = address,
                    .hostnqn = StringMember(params, "hostnqn").value_or(""),
                    .owner = caller_,
                    .lag = options.discovery_lag,
                    .referrals = {},
                    .next_index = 0,
                    .is_connected = false,
                    .seen = {}};
  if (options.discovery_lag == 0) ReadLog(name);
  return true;
}

void SimSpdk::Advance() {
  ++round_trips_;
  for (auto& [name, service] : services) {
    if (service.lag > 0 && --service.lag == 0) ReadLog(name);
  }
}

void SimSpdk::FinishDiscovery() {
  for (auto& [name, service] : services) {
    if (service.lag > 0) ReadLog(name);
    service.lag = 0;
  }
}

// Returns the node whose log the service can read now; null if there is none.
const StorageNode* SimSpdk::SourceOf(const SimService& service) const {
  std::vector<NodeAddress> sources{service.address};
  sources.insert(sources.end(), service.referrals.begin(), service.referrals.end());
  auto up = std::find_if(sources.begin(), sources.end(), [&](const NodeAddress& address) {
    return storage_.StateOf(address) == AddressState::kUp;
  });
  return up == sources.end() ? nullptr : storage_.NodeAt(*up);
}

// Connects the subsystems that the log lists, and disconnects those that it no longer lists. A
// referral replaces an address that is down.
void SimSpdk::ReadLog(const std::string& name) {
  SimService& service = services.at(name);
  const StorageNode* source = SourceOf(service);
  service.is_connected = source != nullptr;
  if (source == nullptr) return;
  const StorageNode& node = *source;
  service.seen.clear();
  for (const auto& [nqn, namespaces] : node.subsystems) service.seen.insert(nqn);
  service.referrals.clear();
  for (const auto& [address, state] : node.addresses) {
    if (node.has_referrals) service.referrals.push_back(address);
  }
  std::vector<std::string> dropped;
  for (const auto& [other, controller] : controllers) {
    if (controller.service == name && !node.subsystems.contains(controller.subnqn)) {
      dropped.push_back(other);
    }
  }
  for (const std::string& other : dropped) RemoveController(other);
  for (const auto& [nqn, namespaces] : node.subsystems) {
    for (const auto& [address, state] : node.addresses) {
      auto own = std::find_if(controllers.begin(), controllers.end(), [&](const auto& entry) {
        return entry.second.service == name && entry.second.subnqn == nqn;
      });
      const bool is_new = own == controllers.end();
      const std::string controller =
          is_new ? fmt::format("{}{}", name, service.next_index) : own->first;
      if (is_new) {
        controllers[controller] = {
            .subnqn = nqn, .service = name, .owner = service.owner, .paths = {}, .seen = {}};
      }
      const bool connected = Connect(controller, address, service.hostnqn);
      if (is_new && !connected) controllers.erase(controller);
      if (is_new && connected) ++service.next_index;
    }
  }
}

// Adds a path to a controller. SPDK refuses a second connection of one host to one subsystem at
// one address, whatever its name.
bool SimSpdk::Connect(const std::string& controller, const NodeAddress& address,
                      const std::string& hostnqn) {
  const std::string& subnqn = controllers.at(controller).subnqn;
  const StorageNode* node = storage_.NodeAt(address);
  if (node == nullptr || node->addresses.at(address) != AddressState::kUp ||
      !node->subsystems.contains(subnqn)) {
    return false;
  }
  for (const auto& [name, other] : controllers) {
    for (const SimPath& path : other.paths) {
      if (other.subnqn == subnqn && path.address == address && path.hostnqn == hostnqn) {
        return false;
      }
    }
  }
  controllers.at(controller)
      .paths.push_back({.address = address, .hostnqn = hostnqn, .is_connected = true});
  Populate(controller);
  return true;
}

// Compares the controller's bdevs with the node's namespaces. A namespace whose name or UUID is
// used by another bdev gets no bdev, and is not tried again until something changes.
void SimSpdk::Populate(const std::string& name) {
  SimController& controller = controllers.at(name);
  const StorageNode* node = storage_.NodeAt(controller.paths.front().address);
  if (node == nullptr) return;
  auto found = node->subsystems.find(controller.subnqn);
  if (found == node->subsystems.end()) return;
  const std::map<uint32_t, RemoteNamespace>& namespaces = found->second;
  controller.seen = namespaces;
  std::vector<std::string> gone;
  for (const auto& [bdev_name, bdev] : bdevs) {
    if (bdev.controller != name) continue;
    auto ns = namespaces.find(bdev.remote_nsid);
    const bool is_same = ns != namespaces.end() && ns->second.uuid == bdev.uuid &&
                         ns->second.medium == bdev.contents.medium;
    if (!is_same) gone.push_back(bdev_name);
  }
  for (const std::string& bdev : gone) RemoveBdev(bdev);
  for (const auto& [nsid, ns] : namespaces) {
    AddBdev({.name = fmt::format("{}n{}", name, nsid),
             .uuid = ns.uuid,
             .product_name = "NVMe disk",
             .owner = controller.owner,
             .contents = {.medium = ns.medium, .key = ""},
             .controller = name,
             .remote_nsid = nsid});
  }
}

void SimSpdk::RemoveController(const std::string& name) {
  std::vector<std::string> gone;
  for (const auto& [bdev_name, bdev] : bdevs) {
    if (bdev.controller == name) gone.push_back(bdev_name);
  }
  for (const std::string& bdev : gone) RemoveBdev(bdev);
  controllers.erase(name);
}

// A controller reads its namespaces again when a path reconnects and when the node reports a
// change; a service reads its log again in the same cases.
void SimSpdk::FollowStorage() {
  std::vector<std::string> names;
  for (auto& [name, controller] : controllers) {
    bool is_back = false;
    bool is_changed = false;
    for (SimPath& path : controller.paths) {
      const StorageNode* node = storage_.NodeAt(path.address);
      const bool was_connected = path.is_connected;
      path.is_connected = node != nullptr &&
                          node->addresses.at(path.address) == AddressState::kUp &&
                          node->subsystems.contains(controller.subnqn);
      if (!path.is_connected) continue;
      is_back |= !was_connected;
      is_changed |= node->subsystems.at(controller.subnqn) != controller.seen;
    }
    if (is_back || is_changed) names.push_back(name);
  }
  for (const std::string& name : names) Populate(name);
  names.clear();
  for (auto& [name, service] : services) {
    if (service.lag > 0) continue;
    const StorageNode* node = SourceOf(service);
    const bool was_connected = service.is_connected;
    service.is_connected = node != nullptr;
    if (node == nullptr) continue;
    std::set<std::string> nqns;
    for (const auto& [nqn, namespaces] : node->subsystems) nqns.insert(nqn);
    if (!was_connected || nqns != service.seen) names.push_back(name);
  }
  for (const std::string& name : names) ReadLog(name);
  CheckExports();
}

bool SimSpdk::IsHanging(const NodeAddress& address) const {
  return storage_.StateOf(address) == AddressState::kHanging;
}

bool SimSpdk::IsDead(const std::string& bdev) const {
  auto found = bdevs.find(bdev);
  if (found == bdevs.end()) return false;
  if (!found->second.base.empty()) return IsDead(found->second.base);
  auto controller = controllers.find(found->second.controller);
  if (controller == controllers.end()) return false;
  return std::none_of(controller->second.paths.begin(), controller->second.paths.end(),
                      [](const SimPath& path) { return path.is_connected; });
}

SimSpdk::Answer SimSpdk::StopDiscovery(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  auto service = services.find(name);
  if (service == services.end()) return SimError(-ENOENT, "No such file or directory");
  JudgeTouch("stopped discovery service " + name, service->second.owner);
  services.erase(service);
  std::vector<std::string> gone;
  for (const auto& [other, controller] : controllers) {
    if (controller.service == name) gone.push_back(other);
  }
  for (const std::string& controller : gone) RemoveController(controller);
  return true;
}

SimSpdk::Answer SimSpdk::GetDiscoveryInfo(const Json& /*params*/) {
  Json list = Json::array();
  for (const auto& [name, service] : services) {
    Json referrals = Json::array();
    for (const NodeAddress& address : service.referrals) {
      referrals.push_back({{"trid", Trid(address, kDiscoveryNqn)}});
    }
    list.push_back({{"name", name},
                    {"trid", Trid(service.address, kDiscoveryNqn)},
                    {"referrals", std::move(referrals)}});
  }
  return list;
}

SimSpdk::Answer SimSpdk::AttachController(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  const std::string nqn = StringMember(params, "subnqn").value_or("");
  const std::string hostnqn = StringMember(params, "hostnqn").value_or("");
  const NodeAddress address = AddressOf(params);
  auto found = controllers.find(name);
  const bool is_new = found == controllers.end();
  if (!is_new) {
    const SimController& controller = found->second;
    for (const SimPath& path : controller.paths) {
      if (path.address == address && controller.subnqn == nqn) {
        return SimError(-EALREADY, "A controller named " + name +
                                       " already exists with the specified network path");
      }
    }
    if (controller.subnqn != nqn) {
      return SimError(-EINVAL, "A controller named " + name +
                                   " already exists, but uses a different subnqn (" +
                                   controller.subnqn + ")");
    }
    JudgeTouch("added a path to controller " + name, controller.owner);
  }
  for (const auto& [other, controller] : controllers) {
    for (const SimPath& path : controller.paths) {
      if (controller.subnqn == nqn && path.address == address && path.hostnqn == hostnqn) {
        return SimError(-EEXIST, "File exists");
      }
    }
  }
  if (is_new) {
    controllers[name] = {.subnqn = nqn, .service = "", .owner = caller_, .paths = {}, .seen = {}};
  }
  if (!Connect(name, address, hostnqn)) {
    if (is_new) controllers.erase(name);
    return SimError(-EIO, "Input/output error");
  }
  Json names = Json::array();
  for (const auto& [bdev_name, bdev] : bdevs) {
    if (bdev.controller == name) names.push_back(bdev_name);
  }
  return names;
}

SimSpdk::Answer SimSpdk::DetachController(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  auto found = controllers.find(name);
  if (found == controllers.end()) return SimNoSuchDevice();
  JudgeTouch("detached controller " + name, found->second.owner);
  if (params.contains("traddr")) {
    std::vector<SimPath>& paths = found->second.paths;
    const NodeAddress address = AddressOf(params);
    if (std::erase_if(paths, [&](const SimPath& path) { return path.address == address; }) == 0) {
      return SimNoSuchDevice();
    }
    if (!paths.empty()) return true;
  }
  RemoveController(name);
  return true;
}

SimSpdk::Answer SimSpdk::GetControllers(const Json& params) {
  std::optional<std::string> only = StringMember(params, "name");
  if (only && !controllers.contains(*only)) return SimNoSuchDevice();
  Json list = Json::array();
  for (const auto& [name, controller] : controllers) {
    if (only && *only != name) continue;
    Json paths = Json::array();
    for (const SimPath& path : controller.paths) {
      paths.push_back({{"state", path.is_connected ? "enabled" : "resetting"},
                       {"trid", Trid(path.address, controller.subnqn)},
                       {"cntlid", 1},
                       {"host", {{"nqn", path.hostnqn}, {"addr", ""}, {"svcid", ""}}}});
    }
    list.push_back({{"name", name}, {"ctrlrs", std::move(paths)}});
  }
  return list;
}

}  // namespace sma::worlds
