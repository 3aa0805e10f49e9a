// SPDX-License-Identifier: Apache-2.0

// Implements the subsystems of the simulated target.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "agent/spdk/json_read.h"
#include "base/nqn.h"
#include "base/strings.h"
#include "worlds/sim_spdk.h"

namespace sma::worlds {

using jsonrpc::Json;
using spdk::BoolMember;
using spdk::StringMember;
using spdk::UintMember;

namespace {

absl::Status NoSuchSubsystem(const Json& params) {
  return SimError(jsonrpc::kInvalidParams, fmt::format("Subsystem with NQN '{}' not found",
                                                       StringMember(params, "nqn").value_or("")));
}

absl::Status InternalError() { return SimError(jsonrpc::kInternalError, "Internal error"); }

bool IsVfioUser(const Json& address) {
  return base::EqualsIgnoreCase(StringMember(address, "trtype").value_or(""), "vfiouser");
}

// Returns the address in the form in which a target lists it.
Json Listed(const Json& address) {
  if (IsVfioUser(address)) {
    return {{"trtype", "VFIOUSER"},
            {"adrfam", "unknown"},
            {"traddr", StringMember(address, "traddr").value_or("")},
            {"trsvcid", ""}};
  }
  const bool is_v6 = base::EqualsIgnoreCase(StringMember(address, "adrfam").value_or(""), "ipv6");
  return {{"trtype", absl::AsciiStrToUpper(StringMember(address, "trtype").value_or(""))},
          {"adrfam", is_v6 ? "IPv6" : "IPv4"},
          {"traddr", StringMember(address, "traddr").value_or("")},
          {"trsvcid", StringMember(address, "trsvcid").value_or("")}};
}

std::string NqnOf(const Json& params) { return StringMember(params, "nqn").value_or(""); }

}  // namespace

SimSubsystem* SimSpdk::FindSubsystem(const Json& params) {
  auto found = subsystems.find(NqnOf(params));
  return found == subsystems.end() ? nullptr : &found->second;
}

SimSpdk::Answer SimSpdk::CreateTransport(const Json& params) {
  const std::string trtype = absl::AsciiStrToUpper(StringMember(params, "trtype").value_or(""));
  if ((trtype != "TCP" && trtype != "VFIOUSER") || options.refused_transports.contains(trtype)) {
    return SimError(jsonrpc::kInvalidParams, fmt::format("Invalid transport type '{}'", trtype));
  }
  if (!transports_.insert(trtype).second) {
    return SimError(jsonrpc::kInternalError,
                    fmt::format("Transport type '{}' already exists", trtype));
  }
  return true;
}

SimSpdk::Answer SimSpdk::GetTransports(const Json& params) {
  Json result = Json::array();
  for (const std::string& trtype : transports_) {
    if (!base::EqualsIgnoreCase(params.value("trtype", trtype), trtype)) continue;
    result.push_back({{"trtype", trtype}, {"max_queue_depth", 128}});
  }
  if (params.contains("trtype") && result.empty()) return SimNoSuchDevice();
  return result;
}

SimSpdk::Answer SimSpdk::GetSubsystems(const Json& params) {
  if (params.contains("nqn") && FindSubsystem(params) == nullptr) return NoSuchSubsystem(params);
  Json result = Json::array();
  for (const auto& [nqn, subsystem] : subsystems) {
    if (params.contains("nqn") && params["nqn"] != nqn) continue;
    Json entry{{"nqn", nqn},
               {"subtype", subsystem.is_discovery ? "Discovery" : "NVMe"},
               {"listen_addresses", Json::array()},
               {"allow_any_host", subsystem.allow_any_host},
               {"hosts", Json::array()}};
    for (const auto& [listener, owner] : subsystem.listeners) {
      entry["listen_addresses"].push_back(listener);
    }
    for (const auto& [host, owner] : subsystem.hosts) entry["hosts"].push_back({{"nqn", host}});
    if (!subsystem.is_discovery) {
      entry.update(subsystem.attributes);
      entry["max_namespaces"] = subsystem.max_namespaces;
      entry["namespaces"] = Json::array();
      for (const auto& [nsid, ns] : subsystem.namespaces) {
        Json listed = ns.attributes;
        listed.update({{"nsid", nsid},
                       {"bdev_name", ns.bdev},
                       {"name", ns.bdev},
                       {"nguid", absl::AsciiStrToUpper(ns.nguid)},
                       {"uuid", ns.uuid}});
        entry["namespaces"].push_back(std::move(listed));
      }
    }
    result.push_back(std::move(entry));
  }
  return result;
}

SimSpdk::Answer SimSpdk::CreateSubsystem(const Json& params) {
  const std::string nqn = NqnOf(params);
  if (!base::IsValidNqn(nqn) || subsystems.contains(nqn)) {
    return SimError(jsonrpc::kInternalError, fmt::format("Unable to create subsystem {}", nqn));
  }
  SimSubsystem& subsystem = subsystems[nqn];
  subsystem.owner = caller_;
  subsystem.allow_any_host = BoolMember(params, "allow_any_host").value_or(false);
  subsystem.attributes = {
      {"serial_number", StringMember(params, "serial_number").value_or("00000000000000000000")},
      {"model_number", StringMember(params, "model_number").value_or("SPDK bdev Controller")},
      {"min_cntlid", 1},
      {"max_cntlid", 65519},
      {"ana_reporting", BoolMember(params, "ana_reporting").value_or(false)}};
  subsystem.max_namespaces =
      static_cast<uint32_t>(UintMember(params, "max_namespaces").value_or(32));
  return true;
}

SimSpdk::Answer SimSpdk::DeleteSubsystem(const Json& params) {
  SimSubsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  JudgeTouch("deleted subsystem " + NqnOf(params), subsystem->owner, subsystem->is_adoptable);
  for (const auto& [nsid, ns] : subsystem->namespaces) bdevs.at(ns.bdev).claimed_by.clear();
  subsystems.erase(NqnOf(params));
  return true;
}

SimSpdk::Answer SimSpdk::AddHost(const Json& params) {
  SimSubsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  const std::string host = StringMember(params, "host").value_or("");
  if (!base::IsValidNqn(host) || !subsystem->hosts.emplace(host, caller_).second) {
    return InternalError();
  }
  return true;
}

SimSpdk::Answer SimSpdk::RemoveHost(const Json& params) {
  SimSubsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  auto host = subsystem->hosts.find(StringMember(params, "host").value_or(""));
  if (host == subsystem->hosts.end()) return InternalError();
  JudgeTouch(fmt::format("removed host {} of {}", host->first, NqnOf(params)), host->second,
             subsystem->is_adoptable);
  subsystem->hosts.erase(host);
  return true;
}

SimSpdk::Answer SimSpdk::AllowAnyHost(const Json& params) {
  SimSubsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  JudgeTouch("changed which hosts may use " + NqnOf(params), subsystem->owner,
             subsystem->is_adoptable);
  subsystem->allow_any_host = BoolMember(params, "allow_any_host").value_or(false);
  return true;
}

SimSpdk::Answer SimSpdk::AddListener(const Json& params) {
  SimSubsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  const Json address = Listed(params.value("listen_address", Json::object()));
  auto& listeners = subsystem->listeners;
  const bool known = std::any_of(listeners.begin(), listeners.end(),
                                 [&](const auto& other) { return other.first == address; });
  const bool usable = IsVfioUser(address)
                          ? std::filesystem::is_directory(address["traddr"].get<std::string>())
                          : address["trsvcid"] != "" && address["traddr"] == "127.0.0.1";
  if (known || !usable || !transports_.contains(address["trtype"])) return SimInvalidParameters();
  listeners.insert(listeners.begin(), {address, caller_});
  if (caller_ != Owner::kAgent) return true;
  for (const std::string& uuid : attached[NqnOf(params)]) {
    const bool is_there = std::any_of(subsystem->namespaces.begin(), subsystem->namespaces.end(),
                                      [&](const auto& entry) { return entry.second.uuid == uuid; });
    const SimBdev* bdev = FindBdev(uuid);
    if (is_there || bdev == nullptr || !bdev->claimed_by.empty()) continue;
    // The bdev may have appeared after the agent queried it.
    if (round_trips_ - bdev->born < 3) continue;
    violations.push_back(
        fmt::format("{} was opened to hosts without volume {}", NqnOf(params), uuid));
  }
  return true;
}

SimSpdk::Answer SimSpdk::RemoveListener(const Json& params) {
  SimSubsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  const Json address = Listed(params.value("listen_address", Json::object()));
  auto& listeners = subsystem->listeners;
  auto found = std::find_if(listeners.begin(), listeners.end(),
                            [&](const auto& other) { return other.first == address; });
  if (found == listeners.end()) return SimInvalidParameters();
  JudgeTouch("removed a listener of " + NqnOf(params), found->second, subsystem->is_adoptable);
  listeners.erase(found);
  return true;
}

SimSpdk::Answer SimSpdk::GetListeners(const Json& params) {
  SimSubsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  Json result = Json::array();
  for (const auto& [address, owner] : subsystem->listeners)
    result.push_back({{"address", address}});
  return result;
}

// No host is ever connected.
SimSpdk::Answer SimSpdk::GetConnected(const Json& params) {
  if (FindSubsystem(params) == nullptr) return NoSuchSubsystem(params);
  return Json::array();
}

SimSpdk::Answer SimSpdk::AddNamespace(const Json& params) {
  SimSubsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  Json entry = params.value("namespace", Json::object());
  SimBdev* bdev = FindBdev(StringMember(entry, "bdev_name").value_or(""));
  auto nsid = static_cast<uint32_t>(UintMember(entry, "nsid").value_or(0));
  if (nsid == 0) {
    nsid = 1;
    while (subsystem->namespaces.contains(nsid)) ++nsid;
  }
  if (bdev == nullptr || !bdev->claimed_by.empty() || nsid > subsystem->max_namespaces ||
      subsystem->namespaces.contains(nsid) || subsystem->is_discovery) {
    return SimInvalidParameters();
  }
  bdev->claimed_by = NqnOf(params);
  const std::string uuid = base::ToLower(StringMember(entry, "uuid").value_or(bdev->uuid));
  std::string no_hyphens = uuid;
  std::erase(no_hyphens, '-');
  SimNamespace& ns = subsystem->namespaces[nsid];
  ns = {.bdev = bdev->name,
        .uuid = uuid,
        .nguid = StringMember(entry, "nguid").value_or(no_hyphens),
        .owner = caller_};
  for (const char* given : {"nsid", "bdev_name", "uuid", "nguid"}) entry.erase(given);
  ns.attributes = std::move(entry);
  return nsid;
}

void SimSpdk::MarkIndistinct(const Json& params) {
  SimSubsystem* subsystem = FindSubsystem(params);
  const Json entry = params.value("namespace", Json::object());
  const SimBdev* bdev = FindBdev(StringMember(entry, "bdev_name").value_or(""));
  if (subsystem == nullptr || bdev == nullptr) return;
  const std::string uuid = base::ToLower(StringMember(entry, "uuid").value_or(bdev->uuid));
  for (auto& [nsid, ns] : subsystem->namespaces) {
    if (ns.bdev == bdev->name && ns.uuid == uuid) ns.is_indistinct = true;
  }
}

SimSpdk::Answer SimSpdk::RemoveNamespace(const Json& params) {
  SimSubsystem* subsystem = FindSubsystem(params);
  if (subsystem == nullptr) return NoSuchSubsystem(params);
  auto found =
      subsystem->namespaces.find(static_cast<uint32_t>(UintMember(params, "nsid").value_or(0)));
  if (found == subsystem->namespaces.end()) return SimInvalidParameters();
  JudgeTouch(fmt::format("removed namespace {} ({}) of {}", found->first, found->second.bdev,
                         NqnOf(params)),
             found->second.owner, subsystem->is_adoptable || found->second.is_indistinct);
  bdevs.at(found->second.bdev).claimed_by.clear();
  subsystem->namespaces.erase(found);
  return true;
}

}  // namespace sma::worlds
