// SPDX-License-Identifier: Apache-2.0

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "sma_nvme/commands.h"
#include "storage_target/bdev_modules/nvme/initiator/discovery_log.h"

namespace sma::sma_nvme {

namespace initiator = storage_target::initiator;
using storage_target::nvme::DiscoverySubtype;

namespace {

const char* SubtypeName(DiscoverySubtype subtype) {
  switch (subtype) {
    case DiscoverySubtype::kReferral:
      return "referral";
    case DiscoverySubtype::kNvm:
      return "nvme";
    case DiscoverySubtype::kCurrentDiscovery:
      return "discovery";
  }
  return "";
}

absl::StatusOr<std::vector<initiator::DiscoveryEntry>> ReadLog(Session& session) {
  std::optional<std::vector<initiator::DiscoveryEntry>> log;
  bool done = false;
  initiator::DiscoveryLogReader reader(
      session.controller(), [&](std::optional<std::vector<initiator::DiscoveryEntry>> entries) {
        log = std::move(entries);
        done = true;
      });
  absl::Status status = session.RunUntil([&] { return done; });
  if (!status.ok()) return status;
  if (!log) return absl::UnavailableError("the discovery log could not be read");
  return *log;
}

void PrintJson(const std::vector<initiator::DiscoveryEntry>& log) {
  auto array = nlohmann::json::array();
  for (const initiator::DiscoveryEntry& entry : log) {
    array.push_back({{"subtype", SubtypeName(entry.subtype)},
                     {"trtype", "TCP"},
                     {"traddr", entry.address.ip.ToString()},
                     {"trsvcid", std::to_string(entry.address.port)},
                     {"subnqn", entry.subnqn}});
  }
  absl::PrintF("%s\n", array.dump(2));
}

}  // namespace

absl::Status Discover(const RemoteOptions& remote, bool json) {
  RemoteOptions discovery = remote;
  if (discovery.subnqn.empty()) discovery.subnqn = storage_target::nvme::kDiscoveryNqn;
  absl::StatusOr<std::unique_ptr<Session>> session = Session::Open(discovery, 1);
  if (!session.ok()) return session.status();
  absl::StatusOr<std::vector<initiator::DiscoveryEntry>> log = ReadLog(**session);
  if (!log.ok()) return log.status();
  if (json) {
    PrintJson(*log);
    return absl::OkStatus();
  }
  for (const initiator::DiscoveryEntry& entry : *log) {
    absl::PrintF("%-10s %-24s %s\n", SubtypeName(entry.subtype), entry.address.ToString(),
                 entry.subnqn);
  }
  if (log->empty()) absl::PrintF("the log has no entries for this host\n");
  return absl::OkStatus();
}

}  // namespace sma::sma_nvme
