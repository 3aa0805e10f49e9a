// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/driver_info.h"

#include <cstdio>
#include <utility>

#include "storage_target/nvme/identify.h"

namespace sma::storage_target::bdev_nvme {

using bdev::Object;
using initiator::ControllerInfo;

namespace {

// Bits of Identify Controller's OACS (NVMe Base 2.0 §5.17.2.1).
constexpr uint16_t kOacsSecurity = 1u << 0;
constexpr uint16_t kOacsFormat = 1u << 1;
constexpr uint16_t kOacsFirmware = 1u << 2;
constexpr uint16_t kOacsNamespaceManagement = 1u << 3;

std::string HexId(uint16_t id) {
  char text[8];
  std::snprintf(text, sizeof text, "0x%04x", id);
  return text;
}

// Returns major and minor version, and the tertiary one unless it is 0.
std::string VersionText(uint32_t version) {
  std::string text = std::to_string(version >> 16) + "." + std::to_string(version >> 8 & 0xff);
  uint32_t tertiary = version & 0xff;
  return tertiary == 0 ? text : text + "." + std::to_string(tertiary);
}

Object ControllerData(const ControllerInfo& info) {
  auto bit = [&](uint16_t mask) { return (info.oacs & mask) != 0 ? 1 : 0; };
  return {{"cntlid", uint32_t{info.controller_id}},
          {"vendor_id", HexId(info.vendor_id)},
          {"model_number", info.model_number},
          {"serial_number", info.serial_number},
          {"firmware_revision", info.firmware_revision},
          {"subnqn", info.subnqn},
          {"oacs", Object{{"security", bit(kOacsSecurity)},
                          {"format", bit(kOacsFormat)},
                          {"firmware", bit(kOacsFirmware)},
                          {"ns_manage", bit(kOacsNamespaceManagement)}}},
          {"multi_ctrlr", (info.cmic & nvme::kCmicMultipleControllers) != 0},
          {"ana_reporting", (info.cmic & nvme::kCmicAnaReporting) != 0}};
}

// Returns SPDK's name of the state.
const char* AnaStateName(nvme::AnaState state) {
  switch (state) {
    case nvme::AnaState::kOptimized:
      return "optimized";
    case nvme::AnaState::kNonOptimized:
      return "non_optimized";
    case nvme::AnaState::kInaccessible:
      return "inaccessible";
    case nvme::AnaState::kPersistentLoss:
      return "persistent_loss";
    case nvme::AnaState::kChange:
      return "change";
  }
  return "";
}

}  // namespace

Object TransportId(const initiator::Address& address, const std::string& subnqn) {
  return {{"trtype", "TCP"},
          {"adrfam", address.ip.is_v6() ? "IPv6" : "IPv4"},
          {"traddr", address.ip.ToString()},
          {"trsvcid", std::to_string(address.port)},
          {"subnqn", subnqn}};
}

Object NamespacePathInfo(const Path& path, const initiator::NamespaceInfo& info) {
  const initiator::Association& association = path.association();
  Object ns_data{{"id", info.nsid}};
  if (path.info().ana_group_count != 0) {
    ns_data.emplace_back("ana_state", AnaStateName(path.AnaStateOf(info)));
  }
  ns_data.emplace_back("can_share", info.shared);
  return {{"trid", TransportId(association.address, association.subnqn)},
          {"ctrlr_data", ControllerData(path.info())},
          {"vs", Object{{"nvme_version", VersionText(path.info().version)}}},
          {"ns_data", std::move(ns_data)}};
}

const char* PolicyName(MultipathPolicy policy) {
  return policy == MultipathPolicy::kActiveActive ? "active_active" : "active_passive";
}

}  // namespace sma::storage_target::bdev_nvme
