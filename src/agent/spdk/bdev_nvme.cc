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

Request GetControllers() { return {kGetNvmeControllers, nullptr}; }

Request GetController(std::string_view name) { return {kGetNvmeControllers, {{"name", name}}}; }

absl::StatusOr<std::vector<DiscoveryService>> ParseDiscoveryInfo(const Json& answer) {
  if (!answer.is_array()) return MalformedAnswer(kGetDiscoveryInfo);
  std::vector<DiscoveryService> services;
  for (const Json& entry : answer) {
    std::optional<std::string> name = StringMember(entry, "name");
    if (!name) return MalformedAnswer(kGetDiscoveryInfo);
    const Json* trid = Member(entry, "trid");
    DiscoveryService service{
        .name = *name, .address = trid ? ParseAddress(*trid) : TransportAddress(), .referrals = {}};
    for (const Json* referral : ElementsOf(entry, "referrals")) {
      const Json* other = Member(*referral, "trid");
      if (other != nullptr) service.referrals.push_back(ParseAddress(*other));
    }
    services.push_back(std::move(service));
  }
  return services;
}

absl::StatusOr<std::vector<Controller>> ParseControllers(const Json& answer) {
  if (!answer.is_array()) return MalformedAnswer(kGetNvmeControllers);
  std::vector<Controller> controllers;
  for (const Json& entry : answer) {
    std::optional<std::string> name = StringMember(entry, "name");
    if (!name) return MalformedAnswer(kGetNvmeControllers);
    Controller controller{.name = *name, .paths = {}};
    for (const Json* path : ElementsOf(entry, "ctrlrs")) {
      const Json* trid = Member(*path, "trid");
      if (trid == nullptr) continue;
      controller.paths.push_back({.address = ParseAddress(*trid),
                                  .subnqn = StringMember(*trid, "subnqn").value_or(""),
                                  .state = StringMember(*path, "state").value_or("")});
    }
    controllers.push_back(std::move(controller));
  }
  return controllers;
}

bool IsKnownDiscovery(const absl::Status& status) { return HasCode(status, -EEXIST); }

bool IsKnownPath(const absl::Status& status) { return HasCode(status, -EALREADY); }

bool IsPathOfAnother(const absl::Status& status) { return HasCode(status, -EEXIST); }

bool IsUnknownName(const absl::Status& status) {
  return HasCode(status, -ENOENT) || HasCode(status, -ENODEV);
}

}  // namespace sma::spdk
