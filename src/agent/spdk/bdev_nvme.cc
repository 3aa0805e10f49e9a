// SPDX-License-Identifier: Apache-2.0

#include "agent/spdk/bdev_nvme.h"

#include <cerrno>
#include <utility>

#include "agent/spdk/call.h"
#include "agent/spdk/json_read.h"
#include "jsonrpc/error.h"

namespace sma::spdk {
namespace {

using jsonrpc::Json;
using jsonrpc::Request;

constexpr char kGetDiscoveryInfo[] = "bdev_nvme_get_discovery_info";
constexpr char kGetNvmeControllers[] = "bdev_nvme_get_controllers";

constexpr int kReconnectForever = -1;
constexpr int kReconnectDelaySeconds = 2;

Json Association(std::string_view name, const TransportAddress& address, std::string_view hostnqn) {
  Json params{{"name", name},
              {"trtype", address.trtype},
              {"adrfam", address.adrfam},
              {"traddr", address.traddr},
              {"trsvcid", address.trsvcid},
              {"ctrlr_loss_timeout_sec", kReconnectForever},
              {"reconnect_delay_sec", kReconnectDelaySeconds}};
  if (!hostnqn.empty()) params["hostnqn"] = hostnqn;
  return params;
}

bool HasCode(const absl::Status& status, int code) {
  std::optional<jsonrpc::TargetError> error = jsonrpc::GetTargetError(status);
  return error && error->code == code;
}

// Returns null if the entry has no name.
std::optional<DiscoveryService> ParseDiscoveryService(const Json& entry) {
  std::optional<std::string> name = StringMember(entry, "name");
  if (!name) return std::nullopt;
  const Json* trid = Member(entry, "trid");
  DiscoveryService service{
      .name = *name, .address = trid ? ParseAddress(*trid) : TransportAddress(), .referrals = {}};
  for (const Json* referral : ElementsOf(entry, "referrals")) {
    const Json* other = Member(*referral, "trid");
    if (other != nullptr) service.referrals.push_back(ParseAddress(*other));
  }
  return service;
}

// Returns null if the entry has no name.
std::optional<Controller> ParseController(const Json& entry) {
  std::optional<std::string> name = StringMember(entry, "name");
  if (!name) return std::nullopt;
  Controller controller{.name = *name, .paths = {}};
  for (const Json* path : ElementsOf(entry, "ctrlrs")) {
    const Json* trid = Member(*path, "trid");
    if (trid == nullptr) continue;
    controller.paths.push_back({.address = ParseAddress(*trid),
                                .subnqn = StringMember(*trid, "subnqn").value_or(""),
                                .state = StringMember(*path, "state").value_or("")});
  }
  return controller;
}

}  // namespace

Request StartDiscovery(std::string_view name, const TransportAddress& address,
                       std::string_view hostnqn) {
  return {"bdev_nvme_start_discovery", Association(name, address, hostnqn)};
}

Request StopDiscovery(std::string_view name) {
  return {"bdev_nvme_stop_discovery", {{"name", name}}};
}

Request GetDiscoveryInfo() { return {kGetDiscoveryInfo, nullptr}; }

Request AttachController(std::string_view name, const TransportAddress& address,
                         std::string_view subnqn, std::string_view hostnqn) {
  Json params = Association(name, address, hostnqn);
  params["subnqn"] = subnqn;
  params["multipath"] = "multipath";
  return {"bdev_nvme_attach_controller", std::move(params)};
}

Request DetachController(std::string_view name) {
  return {"bdev_nvme_detach_controller", {{"name", name}}};
}

Request DetachPath(std::string_view name, const TransportAddress& address,
                   std::string_view subnqn) {
  return {"bdev_nvme_detach_controller",
          {{"name", name},
           {"trtype", address.trtype},
           {"adrfam", address.adrfam},
           {"traddr", address.traddr},
           {"trsvcid", address.trsvcid},
           {"subnqn", subnqn}}};
}

Request GetControllers() { return {kGetNvmeControllers, nullptr}; }

Request GetController(std::string_view name) { return {kGetNvmeControllers, {{"name", name}}}; }

absl::StatusOr<std::vector<DiscoveryService>> ParseDiscoveryInfo(const Json& answer) {
  return ParseArray(answer, kGetDiscoveryInfo, ParseDiscoveryService);
}

absl::StatusOr<std::vector<Controller>> ParseControllers(const Json& answer) {
  return ParseArray(answer, kGetNvmeControllers, ParseController);
}

bool IsKnownDiscovery(const absl::Status& status) { return HasCode(status, -EEXIST); }

bool IsKnownPath(const absl::Status& status) { return HasCode(status, -EALREADY); }

bool IsPathOfAnother(const absl::Status& status) { return HasCode(status, -EEXIST); }

bool IsUnknownName(const absl::Status& status) {
  // SPDK returns ENXIO if the controller does not have the path.
  return HasCode(status, -ENOENT) || HasCode(status, -ENODEV) || HasCode(status, -ENXIO);
}

}  // namespace sma::spdk
