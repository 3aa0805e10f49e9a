// SPDX-License-Identifier: Apache-2.0

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "sma_nvme/commands.h"

namespace sma::sma_nvme {

using storage_target::initiator::ControllerInfo;
using storage_target::initiator::NamespaceInfo;

namespace {

void PrintJson(const ControllerInfo& info, const std::vector<NamespaceInfo>& namespaces) {
  nlohmann::json controller{{"controller_id", info.controller_id},
                            {"model_number", info.model_number},
                            {"serial_number", info.serial_number},
                            {"firmware_revision", info.firmware_revision},
                            {"namespaces", nlohmann::json::array()}};
  for (const NamespaceInfo& ns : namespaces) {
    controller["namespaces"].push_back({{"nsid", ns.nsid},
                                        {"uuid", ns.uuid.ToString()},
                                        {"block_size", ns.block_size},
                                        {"block_count", ns.block_count}});
  }
  absl::PrintF("%s\n", controller.dump(2));
}

}  // namespace

absl::Status List(const RemoteOptions& remote, bool json) {
  absl::StatusOr<std::unique_ptr<Session>> session = Session::Open(remote, 1);
  if (!session.ok()) return session.status();
  absl::StatusOr<std::vector<NamespaceInfo>> namespaces = (*session)->ListNamespaces();
  if (!namespaces.ok()) return namespaces.status();
  const ControllerInfo& info = (*session)->controller().info();
  if (json) {
    PrintJson(info, *namespaces);
    return absl::OkStatus();
  }
  absl::PrintF("controller %u: %s, serial number %s, firmware %s\n", info.controller_id,
               info.model_number, info.serial_number, info.firmware_revision);
  for (const NamespaceInfo& ns : *namespaces) {
    absl::PrintF("namespace %u: %s, %u blocks of %u bytes\n", ns.nsid, ns.uuid.ToString(),
                 ns.block_count, ns.block_size);
  }
  return absl::OkStatus();
}

}  // namespace sma::sma_nvme
