// SPDX-License-Identifier: Apache-2.0

// Converts the state of a fake target to lines that tests can compare.

#include <fmt/format.h>

#include "agent/spdk/testing/fake_target.h"

namespace sma::spdk {

using base::MutexLock;

std::set<std::string> FakeTarget::Inventory() const {
  MutexLock lock(mutex_);
  std::set<std::string> lines;
  auto add = [&lines](std::string line) { lines.insert(std::move(line)); };
  for (const auto& [name, bdev] : bdevs_) {
    add(fmt::format("bdev {} {} {}", name, bdev.uuid, bdev.driver_specific.dump()));
    if (bdev.claimed) add(fmt::format("claim of {}", name));
    for (const auto& [limit, value] : bdev.limits) {
      if (value != 0) add(fmt::format("limit of {}: {} {}", name, limit, value));
    }
  }
  for (const auto& [nqn, subsystem] : subsystems_) {
    add(fmt::format("subsystem {}{}", nqn, subsystem.allow_any_host ? " for any host" : ""));
    for (const std::string& host : subsystem.hosts) add(fmt::format("host {} {}", nqn, host));
    for (const jsonrpc::Json& listener : subsystem.listeners) {
      add(fmt::format("listener {} {}", nqn, listener.dump()));
    }
    for (const auto& [nsid, ns] : subsystem.namespaces) {
      add(fmt::format("namespace {} {} {} {}", nqn, nsid, ns.bdev_name, ns.uuid));
    }
  }
  for (const auto& [name, controller] : vhost_controllers_) {
    add(fmt::format("vhost controller {} {}", name, controller.bdev_name));
  }
  for (const CryptoName& entry : crypto_names_) {
    add(fmt::format("crypto {} {} {}", entry.name, entry.base_name, entry.key_name));
  }
  for (const auto& [name, key] : crypto_keys_) add(fmt::format("key {} {}", name, key.dump()));
  for (const auto& [name, service] : discovery_services_) {
    add(fmt::format("discovery {} {}", name, service.port));
  }
  for (const auto& [name, controller] : controllers_) {
    for (const RemotePath& path : controller.paths) {
      if (path.service.empty()) add(fmt::format("path {} {} {}", name, path.nqn, path.port));
    }
  }
  return lines;
}

}  // namespace sma::spdk
