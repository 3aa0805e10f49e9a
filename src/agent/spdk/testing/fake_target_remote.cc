// SPDX-License-Identifier: Apache-2.0

// Remote volumes of the fake target: the methods of bdev_nvme and bdev_iscsi, and the storage
// nodes.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/spdk/json_read.h"
#include "agent/spdk/testing/fake_target.h"
#include "base/uuid.h"
#include "jsonrpc/error.h"

namespace sma::spdk {

using base::MutexLock;
using jsonrpc::Json;
using jsonrpc::Request;

namespace {

constexpr char kNvmeDisk[] = "NVMe disk";
constexpr char kIscsiUnit[] = "iSCSI LUN";
constexpr char kDiscoveryNqn[] = "nqn.2014-08.org.nvmexpress.discovery";

Json Trid(const std::string& port, const std::string& nqn) {
  return {{"trtype", "TCP"},
          {"adrfam", "IPv4"},
          {"traddr", FakeRemote::kAddress},
          {"trsvcid", port},
          {"subnqn", nqn}};
}

bool Has(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

}  // namespace

void FakeTarget::SetRemote(const std::string& name, FakeRemote remote) {
  MutexLock lock(mutex_);
  remotes_[name] = std::move(remote);
  FollowRemotes();
  NoteEvents();
}

void FakeTarget::SetDiscoveryPending(bool pending) {
  MutexLock lock(mutex_);
  discovery_pending_ = pending;
  FollowRemotes();
  NoteEvents();
}

void FakeTarget::SetIncompleteDescriptions(int count) {
  MutexLock lock(mutex_);
  incomplete_descriptions_ = count;
}

void FakeTarget::SetIoUnderWay(bool under_way) {
  MutexLock lock(mutex_);
  io_under_way_ = under_way;
}

FakeRemote* FakeTarget::RemoteAt(const std::string& port) {
  for (auto& [name, remote] : remotes_) {
    if (remote.up && !remote.hangs && Has(remote.ports, port)) return &remote;
  }
  return nullptr;
}

bool FakeTarget::IsNeverAnswered(const Request& request) {
  const Json params = request.params.is_object() ? request.params : Json::object();
  if (request.method == "bdev_iscsi_create") {
    const std::string url = StringMember(params, "url").value_or("");
    return std::any_of(
        hanging_portals_.begin(), hanging_portals_.end(),
        [&](const std::string& portal) { return url.find(portal + "/") != std::string::npos; });
  }
  if (request.method == "bdev_nvme_attach_controller") {
    const std::string port = StringMember(params, "trsvcid").value_or("");
    return std::any_of(remotes_.begin(), remotes_.end(), [&](const auto& entry) {
      return entry.second.up && entry.second.hangs && Has(entry.second.ports, port);
    });
  }
  const bool removes_one = request.method == "nvmf_subsystem_remove_ns";
  if (!io_under_way_ || (!removes_one && request.method != "nvmf_delete_subsystem")) return false;
  const Subsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return false;
  // A loop is used instead of an algorithm, because clang's thread-safety analysis does not see
  // that a lambda runs under the lock.
  for (const auto& [nsid, ns] : subsystem->namespaces) {
    const bool is_asked_for = !removes_one || UintMember(params, "nsid").value_or(0) == nsid;
    if (is_asked_for && IsDown(ns.bdev_name)) return true;
  }
  return false;
}

// Returns true if all paths of the remote namespace behind the bdev are down.
bool FakeTarget::IsDown(const std::string& bdev_name) {
  const Bdev* bdev = FindBdev(bdev_name);
  if (bdev == nullptr) return false;
  if (bdev->driver_specific.contains("crypto")) {
    return IsDown(bdev->driver_specific["crypto"]["base_bdev_name"].get<std::string>());
  }
  auto controller = controllers_.find(bdev->controller);
  if (bdev->controller.empty() || controller == controllers_.end()) return false;
  for (const RemotePath& path : controller->second.paths) {
    if (RemoteAt(path.port) != nullptr) return false;
  }
  return true;
}

bool FakeTarget::HasRemotePath(const RemotePath& path) {
  return std::any_of(controllers_.begin(), controllers_.end(), [&](const auto& entry) {
    const std::vector<RemotePath>& paths = entry.second.paths;
    return std::any_of(paths.begin(), paths.end(), [&](const RemotePath& other) {
      return other == path && other.hostnqn == path.hostnqn;
    });
  });
}

// Removing the last path removes the controller and its bdevs.
void FakeTarget::RemovePaths(const std::function<bool(const RemotePath&)>& matches) {
  for (auto entry = controllers_.begin(); entry != controllers_.end();) {
    std::erase_if(entry->second.paths, matches);
    if (!entry->second.paths.empty()) {
      ++entry;
      continue;
    }
    std::vector<std::string> gone;
    for (const auto& [name, bdev] : bdevs_) {
      if (bdev.controller == entry->first) gone.push_back(name);
    }
    for (const std::string& name : gone) RemoveBdev(name);
    entry = controllers_.erase(entry);
  }
}

// As in SPDK's discovery_log_page_cb, an entry that another service has attached is skipped and is
// not considered again until the log changes.
void FakeTarget::ReadLog(const std::string& name, RemoteService& service) {
  const FakeRemote* remote = RemoteAt(service.port);
  if (remote == nullptr || discovery_pending_) return;
  service.seen = *remote;
  std::vector<RemotePath> records;
  std::vector<const FakeRemote*> listed{remote};
  for (const std::string& other : remote->lists) listed.push_back(&remotes_[other]);
  for (const FakeRemote* node : listed) {
    for (const auto& [nqn, uuids] : node->subsystems) {
      for (const std::string& port : node->ports) {
        records.push_back({.port = port, .nqn = nqn, .service = name, .hostnqn = service.hostnqn});
      }
    }
  }
  if (service.has_log && records == service.records) return;
  service.has_log = true;
  service.records = records;
  auto has = [](const std::vector<RemotePath>& list, const RemotePath& record) {
    return std::find(list.begin(), list.end(), record) != list.end();
  };
  RemovePaths([&](const RemotePath& path) { return path.service == name && !has(records, path); });
  std::erase_if(service.own, [&](const RemotePath& record) { return !has(records, record); });
  for (const RemotePath& record : records) {
    const bool is_known =
        std::any_of(discovery_services_.begin(), discovery_services_.end(),
                    [&](const auto& other) { return has(other.second.own, record); });
    const bool is_up = RemoteAt(record.port) != nullptr;
    if (is_up && !is_known && !HasRemotePath(record)) AttachRecord(name, service, record);
  }
}

std::string FakeTarget::AttachRecord(const std::string& name, RemoteService& service,
                                     const RemotePath& record) {
  std::string controller;
  for (const auto& [other, entry] : controllers_) {
    const bool is_same = entry.nqn == record.nqn && !entry.paths.front().service.empty();
    if (is_same) controller = other;
  }
  if (controller.empty()) controller = name + std::to_string(service.next_number++);
  controllers_[controller].nqn = record.nqn;
  controllers_[controller].paths.push_back(record);
  service.own.push_back(record);
  return controller;
}

// Existing connections are kept when a remote system goes down, but its changes are not visible
// until it is up again.
void FakeTarget::FollowController(const std::string& name, RemoteController& controller) {
  for (const RemotePath& path : controller.paths) {
    const FakeRemote* remote = RemoteAt(path.port);
    if (remote != nullptr) {
      controller.seen = *remote;
      break;
    }
  }
  std::set<std::string> wanted;
  if (controller.seen.subsystems.contains(controller.nqn)) {
    const std::vector<std::string>& uuids = controller.seen.subsystems.at(controller.nqn);
    wanted.insert(uuids.begin(), uuids.end());
  }
  std::vector<std::string> gone;
  for (const auto& [bdev_name, bdev] : bdevs_) {
    if (bdev.controller == name && !wanted.contains(bdev.uuid)) gone.push_back(bdev_name);
  }
  for (const std::string& bdev_name : gone) RemoveBdev(bdev_name);
  std::erase_if(controller.tried, [&](const std::string& uuid) { return !wanted.contains(uuid); });
  for (const std::string& uuid : wanted) {
    // If another bdev already has the UUID, SPDK refuses to create the second one and does not
    // retry.
    if (!controller.tried.insert(uuid).second || FindBdev(uuid) != nullptr) continue;
    const std::vector<std::string>& uuids = controller.seen.subsystems.at(controller.nqn);
    const auto nsid = std::find(uuids.begin(), uuids.end(), uuid) - uuids.begin() + 1;
    const std::string bdev_name = name + "n" + std::to_string(nsid);
    bdevs_[bdev_name] = {.name = bdev_name,
                         .uuid = uuid,
                         .product_name = kNvmeDisk,
                         .block_size = 4096,
                         .block_count = 1024,
                         .driver_specific = {{"nvme", Json::array()}},
                         .controller = name};
    MakeCryptoBdevs(bdev_name).IgnoreError();
  }
}

void FakeTarget::FollowRemotes() {
  for (auto& [name, service] : discovery_services_) ReadLog(name, service);
  for (auto& [name, controller] : controllers_) FollowController(name, controller);
  bdevs_changed_.NotifyAll();
}

Json FakeTarget::DriverSpecific(const Bdev& bdev) {
  auto controller = controllers_.find(bdev.controller);
  if (bdev.controller.empty() || controller == controllers_.end()) return bdev.driver_specific;
  Json paths = Json::array();
  if (incomplete_descriptions_ > 0) {
    --incomplete_descriptions_;
    return {{"nvme", std::move(paths)}};
  }
  for (const RemotePath& path : controller->second.paths) {
    paths.push_back({{"trid", Trid(path.port, path.nqn)}});
  }
  return {{"nvme", std::move(paths)}};
}

FakeTarget::Answer FakeTarget::StartDiscovery(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  const std::string port = StringMember(params, "trsvcid").value_or("");
  for (const auto& [other, service] : discovery_services_) {
    const bool refers = service.has_log && service.seen.refers && Has(service.seen.ports, port);
    if (other == name || service.port == port || refers) {
      return FakeError(-EEXIST, "File exists");
    }
  }
  discovery_services_[name] = {.port = port,
                               .hostnqn = StringMember(params, "hostnqn").value_or(""),
                               .seen = {},
                               .records = {},
                               .own = {}};
  FollowRemotes();
  return true;
}

// Detaches what the service has attached, even if it is in use; other services do not attach it
// again.
FakeTarget::Answer FakeTarget::StopDiscovery(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  if (discovery_services_.erase(name) == 0) {
    return FakeError(-ENOENT, "No such file or directory");
  }
  RemovePaths([&](const RemotePath& path) { return path.service == name; });
  bdevs_changed_.NotifyAll();
  return true;
}

FakeTarget::Answer FakeTarget::GetDiscoveryInfo(const Json& /*params*/) {
  Json list = Json::array();
  for (const auto& [name, service] : discovery_services_) {
    Json referrals = Json::array();
    for (const std::string& port : service.seen.ports) {
      if (port != service.port && !service.seen.refers) continue;
      referrals.push_back({{"trid", Trid(port, kDiscoveryNqn)}});
      // Removes an optional member, since real targets may omit it.
      referrals.back()["trid"].erase("adrfam");
    }
    list.push_back({{"name", name},
                    {"trid", Trid(service.port, kDiscoveryNqn)},
                    {"referrals", std::move(referrals)}});
  }
  return list;
}

FakeTarget::Answer FakeTarget::AttachController(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  const RemotePath path{.port = StringMember(params, "trsvcid").value_or(""),
                        .nqn = StringMember(params, "subnqn").value_or(""),
                        .hostnqn = StringMember(params, "hostnqn").value_or("")};
  auto found = controllers_.find(name);
  if (found != controllers_.end() &&
      std::find(found->second.paths.begin(), found->second.paths.end(), path) !=
          found->second.paths.end()) {
    return FakeError(-EALREADY, "A controller named " + name +
                                    " already exists with the specified network path");
  }
  if (HasRemotePath(path)) return FakeError(-EEXIST, "File exists");
  const FakeRemote* remote = RemoteAt(path.port);
  if (remote == nullptr || !remote->subsystems.contains(path.nqn)) {
    return FakeError(-EIO, "Input/output error");
  }
  controllers_[name].nqn = path.nqn;
  controllers_[name].paths.push_back(path);
  FollowRemotes();
  Json names = Json::array();
  for (const auto& [bdev_name, bdev] : bdevs_) {
    if (bdev.controller == name) names.push_back(bdev_name);
  }
  return names;
}

FakeTarget::Answer FakeTarget::DetachController(const Json& params) {
  auto found = controllers_.find(StringMember(params, "name").value_or(""));
  if (found == controllers_.end()) return FakeError(-ENODEV, "No such device");
  std::vector<RemotePath> paths = found->second.paths;
  if (const std::optional<std::string> port = StringMember(params, "trsvcid")) {
    std::erase_if(paths, [&](const RemotePath& path) { return path.port != *port; });
    if (paths.empty()) return FakeError(-ENODEV, "No such device");
  }
  RemovePaths([&](const RemotePath& path) {
    return std::any_of(paths.begin(), paths.end(), [&](const RemotePath& own) {
      return own == path && own.service == path.service && own.hostnqn == path.hostnqn;
    });
  });
  bdevs_changed_.NotifyAll();
  return true;
}

FakeTarget::Answer FakeTarget::GetControllers(const Json& params) {
  const std::optional<std::string> only = StringMember(params, "name");
  Json list = Json::array();
  for (const auto& [name, controller] : controllers_) {
    if (only && *only != name) continue;
    Json paths = Json::array();
    for (const RemotePath& path : controller.paths) {
      const bool is_up = RemoteAt(path.port) != nullptr;
      paths.push_back({{"state", is_up ? "enabled" : "reconnect_is_delayed"},
                       {"trid", Trid(path.port, path.nqn)}});
    }
    list.push_back({{"name", name}, {"ctrlrs", std::move(paths)}});
  }
  if (only && list.empty()) return FakeError(-ENODEV, "No such device");
  return list;
}

void FakeTarget::SetPortalHangs(const std::string& portal, bool hangs) {
  MutexLock lock(mutex_);
  if (hangs) {
    hanging_portals_.insert(portal);
  } else {
    hanging_portals_.erase(portal);
  }
}

void FakeTarget::AddIscsiUnit(const std::string& url) {
  MutexLock lock(mutex_);
  iscsi_urls_.insert(url);
}

FakeTarget::Answer FakeTarget::CreateIscsiBdev(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  if (!iscsi_urls_.contains(StringMember(params, "url").value_or(""))) {
    return FakeError(jsonrpc::kInvalidParams, "iSCSI error (251658241).");
  }
  if (FindBdev(name) != nullptr) return FakeError(-EEXIST, "File exists");
  // A unit gets the same UUID each time.
  const base::Uuid uuid =
      base::Uuid::FromName(base::Uuid(), StringMember(params, "url").value_or(""));
  bdevs_[name] = {.name = name,
                  .uuid = uuid.ToString(),
                  .product_name = kIscsiUnit,
                  .block_size = 512,
                  .block_count = 1024};
  bdevs_changed_.NotifyAll();
  return name;
}

FakeTarget::Answer FakeTarget::DeleteIscsiBdev(const Json& params) {
  Bdev* bdev = FindBdev(StringMember(params, "name").value_or(""));
  if (bdev == nullptr || bdev->product_name != kIscsiUnit) {
    return FakeError(-ENODEV, "No such device");
  }
  RemoveBdev(std::string(bdev->name));
  return true;
}

}  // namespace sma::spdk
