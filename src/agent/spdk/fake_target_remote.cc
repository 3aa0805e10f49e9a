// Disks on other machines, for tests: what bdev_nvme and bdev_iscsi methods answer, and the
// machines themselves.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/spdk/fake_target.h"
#include "agent/spdk/json_read.h"
#include "base/uuid.h"
#include "jsonrpc/error.h"

namespace sma::spdk {

using base::MutexLock;
using jsonrpc::Json;

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

FakeRemote* FakeTarget::RemoteAt(const std::string& port) {
  for (auto& [name, remote] : remotes_) {
    if (remote.up && Has(remote.ports, port)) return &remote;
  }
  return nullptr;
}

// Connections that were made stay when a remote goes down; only its changes are not seen then.
void FakeTarget::FollowRemotes() {
  std::map<std::string, std::string> wanted;  // UUID → NQN
  auto want = [&wanted](const FakeRemote& remote, const std::string& nqn) {
    for (const std::string& uuid : remote.subsystems.at(nqn)) wanted.emplace(uuid, nqn);
  };
  for (auto& [name, service] : discovery_services_) {
    if (const FakeRemote* remote = RemoteAt(service.port)) {
      service.seen = *remote;
    }
    for (const auto& [nqn, uuids] : service.seen.subsystems) want(service.seen, nqn);
  }
  for (auto& [name, controller] : controllers_) {
    const FakeRemote* remote = RemoteAt(controller.ports.front());
    if (remote != nullptr) controller.seen = *remote;
    if (controller.seen.subsystems.contains(controller.nqn)) {
      want(controller.seen, controller.nqn);
    }
  }
  std::vector<std::string> gone;
  for (const auto& [name, bdev] : bdevs_) {
    if (bdev.product_name == kNvmeDisk && !wanted.contains(bdev.uuid)) gone.push_back(name);
  }
  for (const std::string& name : gone) RemoveBdev(name);
  for (const auto& [uuid, nqn] : wanted) {
    if (FindBdev(uuid) != nullptr) continue;
    const std::string name = "remote-" + uuid;
    bdevs_[name] = {.name = name,
                    .uuid = uuid,
                    .product_name = kNvmeDisk,
                    .block_size = 4096,
                    .block_count = 1024,
                    .driver_specific = {{"nvme", Json::array({{{"trid", Trid("4420", nqn)}}})}}};
    MakeCryptoBdevs(name).IgnoreError();
  }
  bdevs_changed_.NotifyAll();
}

FakeTarget::Answer FakeTarget::StartDiscovery(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  const std::string port = StringMember(params, "trsvcid").value_or("");
  for (const auto& [other, service] : discovery_services_) {
    bool same_address = service.port == port || Has(service.seen.ports, port);
    if (other == name || same_address) return FakeError(-EEXIST, "File exists");
  }
  discovery_services_[name] = {
      .port = port, .hostnqn = StringMember(params, "hostnqn").value_or(""), .seen = {}};
  FollowRemotes();
  return true;
}

FakeTarget::Answer FakeTarget::StopDiscovery(const Json& params) {
  if (discovery_services_.erase(StringMember(params, "name").value_or("")) == 0) {
    return FakeError(-ENOENT, "No such file or directory");
  }
  FollowRemotes();
  return true;
}

FakeTarget::Answer FakeTarget::GetDiscoveryInfo(const Json& /*params*/) {
  Json list = Json::array();
  for (const auto& [name, service] : discovery_services_) {
    Json referrals = Json::array();
    for (const std::string& port : service.seen.ports) {
      referrals.push_back({{"trid", Trid(port, kDiscoveryNqn)}});
      // Optional parts may be missing.
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
  const std::string port = StringMember(params, "trsvcid").value_or("");
  const std::string nqn = StringMember(params, "subnqn").value_or("");
  auto found = controllers_.find(name);
  if (found != controllers_.end() && Has(found->second.ports, port)) {
    return FakeError(-EALREADY, "A controller named " + name +
                                    " already exists with the specified network path");
  }
  const FakeRemote* remote = RemoteAt(port);
  if (remote == nullptr || !remote->subsystems.contains(nqn)) {
    return FakeError(-EIO, "Input/output error");
  }
  RemoteController& controller = controllers_[name];
  controller.nqn = nqn;
  controller.ports.push_back(port);
  FollowRemotes();
  Json names = Json::array();
  for (const std::string& uuid : remote->subsystems.at(nqn)) names.push_back("remote-" + uuid);
  return names;
}

FakeTarget::Answer FakeTarget::DetachController(const Json& params) {
  if (controllers_.erase(StringMember(params, "name").value_or("")) == 0) {
    return FakeError(-ENODEV, "No such device");
  }
  FollowRemotes();
  return true;
}

FakeTarget::Answer FakeTarget::GetControllers(const Json& /*params*/) {
  Json list = Json::array();
  for (const auto& [name, controller] : controllers_) {
    Json paths = Json::array();
    for (const std::string& port : controller.ports) {
      paths.push_back({{"state", "enabled"}, {"trid", Trid(port, controller.nqn)}});
    }
    list.push_back({{"name", name}, {"ctrlrs", std::move(paths)}});
  }
  return list;
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
  // One and the same for a unit each time.
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
