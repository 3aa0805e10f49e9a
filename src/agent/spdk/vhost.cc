// SPDX-License-Identifier: Apache-2.0

#include "agent/spdk/vhost.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/spdk/call.h"
#include "agent/spdk/json_read.h"
#include "jsonrpc/error.h"

namespace sma::spdk {
namespace {

using jsonrpc::Json;
using jsonrpc::Request;

constexpr char kGetControllers[] = "vhost_get_controllers";

// SPDK's vhost errors have the codes "invalid params" and "internal error"; only the message
// identifies the errno value.
bool IsErrno(const absl::Status& status, int error) {
  std::optional<jsonrpc::TargetError> answer = jsonrpc::GetTargetError(status);
  return answer && (answer->code == -error || answer->message == std::strerror(error));
}

// Returns nullopt for a controller of another type.
std::optional<VhostController> ParseBlkController(const Json& entry) {
  const Json* backend = Member(entry, "backend_specific");
  const Json* block = backend == nullptr ? nullptr : Member(*backend, "block");
  if (block == nullptr) return std::nullopt;
  return VhostController{.name = StringMember(entry, "ctrlr").value_or(""),
                         .bdev_name = StringMember(*block, "bdev").value_or(""),
                         .session_count = ElementsOf(entry, "sessions").size()};
}

}  // namespace

Request CreateVhostBlkController(std::string_view name, std::string_view bdev_name,
                                 bool packed_ring) {
  Request request{"vhost_create_blk_controller", {{"ctrlr", name}, {"dev_name", bdev_name}}};
  if (packed_ring) request.params["packed_ring"] = true;
  return request;
}

Request GetVhostControllers() { return {kGetControllers, nullptr}; }

Request GetVhostController(std::string_view name) { return {kGetControllers, {{"name", name}}}; }

Request DeleteVhostController(std::string_view name) {
  return {"vhost_delete_controller", {{"ctrlr", name}}};
}

absl::StatusOr<std::vector<VhostController>> ParseVhostControllers(const Json& answer) {
  if (!answer.is_array()) return MalformedAnswer(kGetControllers);
  std::vector<VhostController> controllers;
  for (const Json& entry : answer) {
    std::optional<VhostController> controller = ParseBlkController(entry);
    if (!controller) continue;
    if (controller->name.empty()) return MalformedAnswer(kGetControllers);
    controllers.push_back(*std::move(controller));
  }
  return controllers;
}

absl::StatusOr<std::optional<VhostController>> ParseVhostController(
    const absl::StatusOr<Json>& answer) {
  if (IsNoSuchVhostDevice(answer.status())) return std::nullopt;
  if (!answer.ok()) return answer.status();
  absl::StatusOr<std::vector<VhostController>> controllers = ParseVhostControllers(*answer);
  if (!controllers.ok()) return controllers.status();
  if (controllers->size() == 1) return std::optional(std::move(controllers->front()));
  if (answer->size() != 1) return MalformedAnswer(kGetControllers);
  return absl::AlreadyExistsError("a vhost controller of another type has this name");
}

bool IsNoSuchVhostDevice(const absl::Status& status) { return IsErrno(status, ENODEV); }
bool IsVhostControllerExisting(const absl::Status& status) { return IsErrno(status, EEXIST); }
bool IsVhostControllerBusy(const absl::Status& status) { return IsErrno(status, EBUSY); }

}  // namespace sma::spdk
