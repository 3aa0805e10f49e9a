// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/vhost/vhost_rpc.h"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "storage_target/bdev/bdev.h"
#include "storage_target/rpc/params.h"

namespace sma::storage_target::rpc {
namespace {

using vhost_user::Controller;
using vhost_user::ControllerTable;
using vhost_user::Session;

constexpr char kTransport[] = "vhost_user_blk";
constexpr int kMaxCores = 64;

// SPDK's default values for coalescing, which this target does not have: completions are never
// delayed.
constexpr uint32_t kDelayBaseUs = 0;
constexpr uint32_t kIopsThreshold = 60000;

// Returns the cores of a hexadecimal mask, for example "0x3"; nullopt if the mask is invalid.
std::optional<std::vector<int>> ParseCpuMask(std::string_view text) {
  if (text.starts_with("0x") || text.starts_with("0X")) text.remove_prefix(2);
  uint64_t mask = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mask, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  std::vector<int> cores;
  for (int core = 0; core < kMaxCores; ++core) {
    if ((mask >> core & 1) != 0) cores.push_back(core);
  }
  return cores;
}

std::string FormatCpuMask(const Controller& controller) {
  uint64_t mask = 0;
  for (const Reactor* reactor : controller.options().reactors) {
    mask |= uint64_t{1} << (vhost_user::CoreOf(*reactor) % kMaxCores);
  }
  return absl::StrCat("0x", absl::Hex(mask));
}

Json FormatSession(const Controller& controller, const Session& session) {
  return {{"vid", session.id()},
          {"id", session.id()},
          {"name", absl::StrCat(controller.name(), "s", session.id())},
          {"started", session.running_vrings() > 0},
          {"max_queues", session.running_vrings()},
          {"inflight_task_cnt", session.outstanding_requests()}};
}

Json FormatController(const Controller& controller) {
  Json sessions = Json::array();
  for (const auto& session : controller.sessions()) {
    sessions.push_back(FormatSession(controller, *session));
  }
  const bdev::Bdev* bdev = controller.bdev();
  Json block = {{"readonly", controller.read_only()},
                {"bdev", bdev != nullptr ? Json(bdev->name()) : Json()},
                {"transport", kTransport}};
  return {{"ctrlr", controller.name()},
          {"cpumask", FormatCpuMask(controller)},
          {"delay_base_us", kDelayBaseUs},
          {"iops_threshold", kIopsThreshold},
          {"socket", controller.options().socket_path},
          {"sessions", std::move(sessions)},
          {"backend_specific", {{"block", std::move(block)}}}};
}

RpcResult TrueOrInvalidParams(int error) {
  if (error != 0) return InvalidParamsErrno(error);
  return Json(true);
}

RpcResult CreateController(ControllerTable& table, const Json& params) {
  ControllerTable::Params controller;
  std::optional<std::string> cpumask, transport;
  bool decoded = DecodeRelaxed(
      params, {Required("ctrlr", &controller.name), Required("dev_name", &controller.bdev_name),
               Optional("readonly", &controller.read_only),
               Optional("packed_ring", &controller.packed_ring), Optional("cpumask", &cpumask),
               Optional("transport", &transport)});
  if (!decoded || transport.value_or(kTransport) != kTransport) return InvalidParamsErrno(EINVAL);
  if (cpumask) {
    controller.cores = ParseCpuMask(*cpumask);
    if (!controller.cores) return InvalidParamsErrno(EINVAL);
  }
  return TrueOrInvalidParams(table.Create(controller));
}

RpcResult GetControllers(const ControllerTable& table, const Json& params) {
  std::optional<std::string> name;
  if (!Decode(params, {Optional("name", &name)})) return DecodeError();
  Json list = Json::array();
  if (name) {
    const Controller* controller = table.Find(*name);
    if (controller == nullptr) return InternalError(strerror(ENODEV));
    list.push_back(FormatController(*controller));
    return list;
  }
  for (const Controller* controller : table.List()) list.push_back(FormatController(*controller));
  return list;
}

RpcResult DeleteController(ControllerTable& table, const Json& params) {
  std::string name;
  if (!Decode(params, {Required("ctrlr", &name)})) return InvalidParamsErrno(EINVAL);
  return TrueOrInvalidParams(table.Delete(name));
}

// As in SPDK, controllers whose bdev was removed are omitted.
Json SaveControllers(const ControllerTable& table) {
  Json calls = Json::array();
  for (const Controller* controller : table.List()) {
    if (controller->bdev() == nullptr) continue;
    Json params = {{"ctrlr", controller->name()},
                   {"dev_name", controller->bdev()->name()},
                   {"cpumask", FormatCpuMask(*controller)},
                   {"readonly", controller->options().read_only},
                   {"transport", kTransport}};
    if (controller->options().packed_ring) params["packed_ring"] = true;
    calls.push_back({{"method", "vhost_create_blk_controller"}, {"params", std::move(params)}});
  }
  return calls;
}

}  // namespace

void RegisterVhostRpc(RpcServer& server, vhost_user::ControllerTable& table) {
  server.Register("vhost_create_blk_controller",
                  [&table](const Json& params) { return CreateController(table, params); });
  server.Register("vhost_get_controllers",
                  [&table](const Json& params) { return GetControllers(table, params); });
  server.Register("vhost_delete_controller",
                  [&table](const Json& params) { return DeleteController(table, params); });
  server.AddSubsystem({.name = "vhost_blk", .depends_on = {"bdev"}, .save = [&table] {
                         return SaveControllers(table);
                       }});
}

}  // namespace sma::storage_target::rpc
