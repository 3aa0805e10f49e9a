// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "agent/spdk/json_read.h"
#include "agent/spdk/testing/fake_target.h"
#include "base/nqn.h"
#include "base/strings.h"
#include "base/uuid.h"

namespace sma::spdk {

using jsonrpc::Json;

namespace {

absl::Status InternalError() { return FakeError(jsonrpc::kInternalError, "Internal error"); }

absl::Status NoSuchSubsystem(const Json& params) {
  return FakeError(jsonrpc::kInvalidParams, fmt::format("Subsystem with NQN '{}' not found",
                                                        StringMember(params, "nqn").value_or("")));
}

bool IsVfioUser(const Json& transport_or_address) {
  return base::EqualsIgnoreCase(StringMember(transport_or_address, "trtype").value_or(""),
                                "vfiouser");
}

// Returns the address in the form in which a target lists it.
Json Listed(const Json& address) {
  if (IsVfioUser(address)) {
    return {{"trtype", "VFIOUSER"},
            {"adrfam", "unknown"},
            {"traddr", StringMember(address, "traddr").value_or("")},
            {"trsvcid", ""}};
  }
  bool is_v6 = base::EqualsIgnoreCase(StringMember(address, "adrfam").value_or(""), "ipv6");
  return {{"trtype", absl::AsciiStrToUpper(StringMember(address, "trtype").value_or(""))},
          {"adrfam", is_v6 ? "IPv6" : "IPv4"},
          {"traddr", StringMember(address, "traddr").value_or("")},
          {"trsvcid", StringMember(address, "trsvcid").value_or("")}};
}

bool IsLocal(const std::string& traddr) { return traddr == "127.0.0.1" || traddr == "::1"; }

}  // namespace

FakeTarget::Subsystem* FakeTarget::FindSubsystem(const Json& params) {
  auto found = subsystems_.find(StringMember(params, "nqn").value_or(""));
  return found == subsystems_.end() ? nullptr : &found->second;
}

FakeTarget::Answer FakeTarget::CreateTransport(const Json& params) {
  std::string trtype = StringMember(params, "trtype").value_or("");
  if (!base::EqualsIgnoreCase(trtype, "tcp") && !IsVfioUser(params)) {
    return FakeError(jsonrpc::kInvalidParams, fmt::format("Invalid transport type '{}'", trtype));
  }
  if (!transports_.insert(absl::AsciiStrToUpper(trtype)).second) {
    return FakeError(jsonrpc::kInternalError,
                     fmt::format("Transport type '{}' already exists", trtype));
  }
  return true;
}

FakeTarget::Answer FakeTarget::GetTransports(const Json& params) {
  Json result = Json::array();
  for (const std::string& trtype : transports_) {
    if (!base::EqualsIgnoreCase(params.value("trtype", trtype), trtype)) continue;
    result.push_back({{"trtype", trtype}, {"max_queue_depth", 128}});
  }
  if (params.contains("trtype") && result.empty()) return FakeError(-ENODEV, "No such device");
  return result;
}

FakeTarget::Answer FakeTarget::GetSubsystems(const Json& params) {
  if (params.contains("nqn") && FindSubsystem(params) == nullptr) return NoSuchSubsystem(params);
  Json result = Json::array();
  for (const auto& [nqn, subsystem] : subsystems_) {
    if (params.contains("nqn") && params["nqn"] != nqn) continue;
    Json entry{{"nqn", nqn},
               {"subtype", subsystem.is_discovery ? "Discovery" : "NVMe"},
               {"listen_addresses", subsystem.listeners},
               {"allow_any_host", subsystem.allow_any_host},
               {"hosts", Json::array()}};
    for (const std::string& host : subsystem.hosts) entry["hosts"].push_back({{"nqn", host}});
    if (!subsystem.is_discovery) {
      entry.update({{"serial_number", subsystem.serial_number},
                    {"model_number", subsystem.model_number},
                    {"max_namespaces", subsystem.max_namespaces},
                    {"passthrough", false},
                    {"min_cntlid", 1},
                    {"max_cntlid", 65519},
                    {"dmrsl", 2097152},
                    {"wzsl", 12},
                    {"namespaces", Json::array()}});
      for (const auto& [nsid, ns] : subsystem.namespaces) {
        entry["namespaces"].push_back({{"nsid", nsid},
                                       {"bdev_name", ns.bdev_name},
                                       {"name", ns.bdev_name},
                                       {"nguid", absl::AsciiStrToUpper(ns.nguid)},
                                       {"uuid", ns.uuid}});
      }
    }
    result.push_back(std::move(entry));
  }
  return result;
}

FakeTarget::Answer FakeTarget::CreateSubsystem(const Json& params) {
  std::string nqn = StringMember(params, "nqn").value_or("");
  if (!base::IsValidNqn(nqn) || subsystems_.contains(nqn)) {
    return FakeError(jsonrpc::kInternalError, fmt::format("Unable to create subsystem {}", nqn));
  }
  Subsystem& subsystem = subsystems_[nqn];
  subsystem.allow_any_host = BoolMember(params, "allow_any_host").value_or(false);
  subsystem.serial_number = StringMember(params, "serial_number").value_or(subsystem.serial_number);
  subsystem.model_number = StringMember(params, "model_number").value_or(subsystem.model_number);
  subsystem.max_namespaces =
      static_cast<uint32_t>(UintMember(params, "max_namespaces").value_or(32));
  return true;
}

FakeTarget::Answer FakeTarget::DeleteSubsystem(const Json& params) {
  Subsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  for (const auto& [nsid, ns] : subsystem->namespaces) bdevs_.at(ns.bdev_name).claimed = false;
  subsystems_.erase(StringMember(params, "nqn").value_or(""));
  return true;
}

FakeTarget::Answer FakeTarget::AddHost(const Json& params) {
  Subsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  std::string host = StringMember(params, "host").value_or("");
  bool known = std::count(subsystem->hosts.begin(), subsystem->hosts.end(), host) > 0;
  if (known || !base::IsValidNqn(host)) return InternalError();
  subsystem->hosts.push_back(host);
  return true;
}

FakeTarget::Answer FakeTarget::RemoveHost(const Json& params) {
  Subsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  bool removed = std::erase(subsystem->hosts, StringMember(params, "host").value_or("")) > 0;
  return removed ? Answer(true) : InternalError();
}

FakeTarget::Answer FakeTarget::AllowAnyHost(const Json& params) {
  Subsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  subsystem->allow_any_host = BoolMember(params, "allow_any_host").value_or(false);
  return true;
}

FakeTarget::Answer FakeTarget::AddListener(const Json& params) {
  Subsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  const Json address = Listed(params.value("listen_address", Json::object()));
  auto& listeners = subsystem->listeners;
  bool known = std::count(listeners.begin(), listeners.end(), address) > 0;
  bool usable = IsVfioUser(address)
                    ? std::filesystem::is_directory(address["traddr"].get<std::string>())
                    : address["trsvcid"] != "" && IsLocal(address["traddr"]);
  if (known || !usable || !transports_.contains(address["trtype"])) {
    return FakeInvalidParameters();
  }
  listeners.insert(listeners.begin(), address);
  return true;
}

FakeTarget::Answer FakeTarget::RemoveListener(const Json& params) {
  Subsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  const Json address = Listed(params.value("listen_address", Json::object()));
  return std::erase(subsystem->listeners, address) > 0 ? Answer(true) : FakeInvalidParameters();
}

FakeTarget::Answer FakeTarget::GetListeners(const Json& params) {
  Subsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  Json result = Json::array();
  for (const Json& address : subsystem->listeners) result.push_back({{"address", address}});
  return result;
}

FakeTarget::Answer FakeTarget::GetHostControllers(const Json& params) {
  const Subsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  Json result = Json::array();
  for (int i = 1; i <= subsystem->host_count; ++i) result.push_back({{"cntlid", i}});
  return result;
}

void FakeTarget::SetHostCount(std::string_view nqn, int count) {
  base::MutexLock lock(mutex_);
  auto found = subsystems_.find(std::string(nqn));
  if (found != subsystems_.end()) found->second.host_count = count;
}

FakeTarget::Answer FakeTarget::AddNamespace(const Json& params) {
  Subsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  const Json entry = params.value("namespace", Json::object());
  Bdev* bdev = FindBdev(StringMember(entry, "bdev_name").value_or(""));
  auto nsid = static_cast<uint32_t>(UintMember(entry, "nsid").value_or(0));
  if (nsid == 0) {
    nsid = 1;
    while (subsystem->namespaces.contains(nsid)) ++nsid;
  }
  if (bdev == nullptr || bdev->claimed || nsid > subsystem->max_namespaces ||
      subsystem->namespaces.contains(nsid)) {
    return FakeInvalidParameters();
  }
  bdev->claimed = true;
  std::string uuid = StringMember(entry, "uuid").value_or(bdev->uuid);
  std::string no_hyphens = uuid;
  std::erase(no_hyphens, '-');
  std::string nguid = StringMember(entry, "nguid").value_or(no_hyphens);
  subsystem->namespaces[nsid] = {.bdev_name = bdev->name, .uuid = uuid, .nguid = nguid};
  return nsid;
}

FakeTarget::Answer FakeTarget::RemoveNamespace(const Json& params) {
  Subsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  auto nsid = static_cast<uint32_t>(UintMember(params, "nsid").value_or(0));
  auto found = subsystem->namespaces.find(nsid);
  if (found == subsystem->namespaces.end()) return FakeInvalidParameters();
  bdevs_.at(found->second.bdev_name).claimed = false;
  subsystem->namespaces.erase(found);
  return true;
}

}  // namespace sma::spdk
