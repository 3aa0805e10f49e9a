// SPDX-License-Identifier: Apache-2.0

#include "worlds/sim_spdk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "jsonrpc/error.h"

namespace sma::worlds {

using jsonrpc::Json;

absl::Status SimError(int code, const std::string& message) {
  return jsonrpc::TargetErrorStatus("sim", {code, message});
}

absl::Status SimInvalidParameters() {
  return SimError(jsonrpc::kInvalidParams, "Invalid parameters");
}

absl::Status SimNoSuchDevice() { return SimError(-ENODEV, "No such device"); }

SimSpdk::SimSpdk(Storage& storage, SimOptions sim_options)
    : options(std::move(sim_options)), storage_(storage) {
  Restart();
}

const std::map<std::string, SimSpdk::Handler>& SimSpdk::Handlers() {
  static const auto* const handlers = new std::map<std::string, Handler>{
      {"accel_crypto_key_create", &SimSpdk::CreateKey},
      {"accel_crypto_key_destroy", &SimSpdk::DestroyKey},
      {"accel_crypto_keys_get", &SimSpdk::GetKeys},
      {"bdev_crypto_create", &SimSpdk::CreateCrypto},
      {"bdev_crypto_delete", &SimSpdk::DeleteCrypto},
      {"bdev_get_bdevs", &SimSpdk::GetBdevs},
      {"bdev_iscsi_create", &SimSpdk::CreateIscsi},
      {"bdev_iscsi_delete", &SimSpdk::DeleteIscsi},
      {"bdev_null_create", &SimSpdk::CreateDisk},
      {"bdev_null_delete", &SimSpdk::DeleteDisk},
      {"bdev_nvme_attach_controller", &SimSpdk::AttachController},
      {"bdev_nvme_detach_controller", &SimSpdk::DetachController},
      {"bdev_nvme_get_controllers", &SimSpdk::GetControllers},
      {"bdev_nvme_get_discovery_info", &SimSpdk::GetDiscoveryInfo},
      {"bdev_nvme_start_discovery", &SimSpdk::StartDiscovery},
      {"bdev_nvme_stop_discovery", &SimSpdk::StopDiscovery},
      {"bdev_set_qos_limit", &SimSpdk::SetQosLimit},
      {"notify_get_notifications", &SimSpdk::GetNotifications},
      {"nvmf_create_subsystem", &SimSpdk::CreateSubsystem},
      {"nvmf_create_transport", &SimSpdk::CreateTransport},
      {"nvmf_delete_subsystem", &SimSpdk::DeleteSubsystem},
      {"nvmf_get_subsystems", &SimSpdk::GetSubsystems},
      {"nvmf_get_transports", &SimSpdk::GetTransports},
      {"nvmf_subsystem_add_host", &SimSpdk::AddHost},
      {"nvmf_subsystem_add_listener", &SimSpdk::AddListener},
      {"nvmf_subsystem_add_ns", &SimSpdk::AddNamespace},
      {"nvmf_subsystem_allow_any_host", &SimSpdk::AllowAnyHost},
      {"nvmf_subsystem_get_controllers", &SimSpdk::GetConnected},
      {"nvmf_subsystem_get_listeners", &SimSpdk::GetListeners},
      {"nvmf_subsystem_get_qpairs", &SimSpdk::GetConnected},
      {"nvmf_subsystem_remove_host", &SimSpdk::RemoveHost},
      {"nvmf_subsystem_remove_listener", &SimSpdk::RemoveListener},
      {"nvmf_subsystem_remove_ns", &SimSpdk::RemoveNamespace},
      {"spdk_get_version", &SimSpdk::GetVersion},
      {"vhost_create_blk_controller", &SimSpdk::CreateVhost},
      {"vhost_delete_controller", &SimSpdk::DeleteVhost},
      {"vhost_get_controllers", &SimSpdk::GetVhosts},
  };
  return *handlers;
}

SimSpdk::Answer SimSpdk::Call(Owner caller, const std::string& method, const Json& params) {
  auto handler = Handlers().find(method);
  if (handler == Handlers().end()) return SimError(jsonrpc::kMethodNotFound, "Method not found");
  caller_ = caller;
  Answer answer = (this->*handler->second)(params.is_null() ? Json::object() : params);
  caller_ = Owner::kOthers;
  CheckExports();
  return answer;
}

SimSpdk::Answer SimSpdk::GetVersion(const Json& /*params*/) {
  return Json{{"version", "SPDK v26.09-pre (simulated)"}};
}

void SimSpdk::Restart() {
  // Other owners' layers and namespaces that depend on the agent's objects are removed together
  // with them.
  std::erase_if(subsystems, [](const auto& entry) { return entry.second.owner == Owner::kAgent; });
  std::erase_if(vhosts, [](const auto& entry) { return entry.second.owner == Owner::kAgent; });
  for (auto& [nqn, subsystem] : subsystems) {
    std::erase_if(subsystem.hosts, [](const auto& host) { return host.second == Owner::kAgent; });
    std::erase_if(subsystem.listeners,
                  [](const auto& listener) { return listener.second == Owner::kAgent; });
    std::erase_if(subsystem.namespaces,
                  [](const auto& entry) { return entry.second.owner == Owner::kAgent; });
  }
  std::vector<std::string> gone;
  for (auto& [name, bdev] : bdevs) {
    bdev.claimed_by.clear();
    if (bdev.owner == Owner::kAgent) gone.push_back(name);
  }
  for (const auto& [name, controller] : controllers) {
    if (controller.owner == Owner::kAgent) gone.push_back(name);
  }
  for (const std::string& name : gone) {
    if (controllers.contains(name)) RemoveController(name);
    if (bdevs.contains(name)) RemoveBdev(name);
  }
  std::erase_if(services, [](const auto& entry) { return entry.second.owner == Owner::kAgent; });
  std::erase_if(crypto_names, [](const auto& entry) { return entry.owner == Owner::kAgent; });
  std::erase_if(keys, [](const auto& entry) { return entry.second.owner == Owner::kAgent; });
  for (auto& [nqn, subsystem] : subsystems) {
    for (auto& [nsid, ns] : subsystem.namespaces) bdevs.at(ns.bdev).claimed_by = nqn;
  }
  for (auto& [name, bdev] : bdevs) {
    bdev.age = 0;
    if (!bdev.base.empty() && bdevs.contains(bdev.base)) bdevs.at(bdev.base).claimed_by = name;
  }
  transports_.clear();
  events_.clear();
  next_event_ = 0;
  for (const auto& [name, bdev] : bdevs) AddEvent("bdev_register", name);
  SimSubsystem& discovery = subsystems["nqn.2014-08.org.nvmexpress.discovery"];
  discovery.is_discovery = true;
  discovery.allow_any_host = true;
  FollowStorage();
}

void SimSpdk::JudgeTouch(const std::string& what, Owner owner, bool is_adoptable) {
  if (caller_ == Owner::kAgent && owner != Owner::kAgent && !is_adoptable) {
    violations.push_back("the agent " + what + ", which it did not make");
  }
}

void SimSpdk::CheckExports() {
  auto judge = [this](const std::string& where, const std::string& uuid, const std::string& name) {
    auto right = truth.find(uuid);
    auto bdev = bdevs.find(name);
    if (right == truth.end() || bdev == bdevs.end()) return;
    if (bdev->second.contents == right->second) return;
    violations.push_back(fmt::format("{} exports volume {} as {}, not as {}", where, uuid,
                                     ToString(bdev->second.contents), ToString(right->second)));
  };
  for (const auto& [nqn, subsystem] : subsystems) {
    for (const auto& [nsid, ns] : subsystem.namespaces) {
      if (ns.owner == Owner::kAgent) judge(nqn, ns.uuid, ns.bdev);
    }
  }
  for (const auto& [name, vhost] : vhosts) {
    auto bdev = bdevs.find(vhost.bdev);
    const std::set<std::string>& volumes = vhost_volumes[name];
    if (vhost.owner != Owner::kAgent || bdev == bdevs.end() || volumes.empty()) continue;
    const bool is_right = std::any_of(volumes.begin(), volumes.end(), [&](const auto& uuid) {
      return truth.contains(uuid) && truth.at(uuid) == bdev->second.contents;
    });
    if (is_right) continue;
    violations.push_back(fmt::format("{} exports {}, not volume {}", name,
                                     ToString(bdev->second.contents), *volumes.begin()));
  }
}

std::vector<std::string> SimSpdk::Exported(const std::string& device,
                                           const std::string& uuid) const {
  std::vector<std::string> found;
  auto vhost = vhosts.find(device);
  if (vhost != vhosts.end() && !vhost->second.bdev.empty()) found.push_back(vhost->second.bdev);
  auto subsystem = subsystems.find(device);
  if (subsystem == subsystems.end()) return found;
  for (const auto& [nsid, ns] : subsystem->second.namespaces) {
    if (ns.uuid == uuid) found.push_back(ns.bdev);
  }
  return found;
}

std::vector<std::string> SimSpdk::Intrusions() const {
  std::vector<std::string> found;
  for (const auto& [nqn, subsystem] : subsystems) {
    if (subsystem.owner == Owner::kAgent) continue;
    for (const auto& [host, owner] : subsystem.hosts) {
      if (owner == Owner::kAgent) found.push_back(fmt::format("host {} in {}", host, nqn));
    }
    for (const auto& [listener, owner] : subsystem.listeners) {
      if (owner == Owner::kAgent) {
        found.push_back(fmt::format("listener {} in {}", listener.dump(), nqn));
      }
    }
    for (const auto& [nsid, ns] : subsystem.namespaces) {
      if (ns.owner == Owner::kAgent) found.push_back(fmt::format("volume {} in {}", ns.uuid, nqn));
    }
  }
  return found;
}

void SimSpdk::Transfer(const std::string& name, const std::string& uuid) {
  if (auto vhost = vhosts.find(name); vhost != vhosts.end()) vhost->second.owner = Owner::kAgent;
  auto found = subsystems.find(name);
  if (found == subsystems.end()) return;
  SimSubsystem& subsystem = found->second;
  // Objects that other owners have added to a subsystem of the agent still belong to these owners.
  if (subsystem.owner != Owner::kAgent) {
    for (auto& [host, owner] : subsystem.hosts) owner = Owner::kAgent;
    for (auto& [listener, owner] : subsystem.listeners) owner = Owner::kAgent;
  }
  subsystem.owner = Owner::kAgent;
  for (auto& [nsid, ns] : subsystem.namespaces) {
    const bool is_right =
        !truth.contains(ns.uuid) || bdevs.at(ns.bdev).contents == truth.at(ns.uuid);
    if (!uuid.empty() && (ns.uuid != uuid || !is_right)) continue;
    ns.owner = Owner::kAgent;
    // The layers and connections of a device's volumes are transferred with the device.
    for (SimBdev* bdev = FindBdev(ns.bdev); bdev != nullptr;) {
      if (!bdev->base.empty()) {
        bdev->owner = Owner::kAgent;
        for (SimCryptoName& entry : crypto_names) {
          if (entry.name == bdev->name) entry.owner = Owner::kAgent;
        }
        if (auto key = keys.find(bdev->key_name); key != keys.end()) {
          key->second.owner = Owner::kAgent;
        }
      }
      bdev = bdev->base.empty() ? nullptr : FindBdev(bdev->base);
    }
  }
}

}  // namespace sma::worlds
