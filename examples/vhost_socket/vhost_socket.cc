// SPDX-License-Identifier: Apache-2.0

// A plugin for the Storage Management Agent: the device type `vhost_socket`. A device is a
// vhost-user socket that serves one volume as a virtio-blk disk, for VMs that the agent does not
// control (Cloud Hypervisor, libvirt, a QEMU started by hand). It serves virtio_blk requests like
// the agent's own type vhost_blk, but plugs nothing into a VM:
//
//   plugins: [vhost_socket]
//   devices:
//   - name: vhost_socket
//     params: {prefix: vm-}
//
// The socket's name consists of the prefix and the physical id. The target's option `-S` sets its
// folder.

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "jsonrpc/error.h"
#include "sma/plugin.h"

namespace {

using nlohmann::json;
using sma::jsonrpc::GetTargetError;

constexpr std::string_view kHandlePrefix = "vhost-socket:";

/// A snapshot of the target's vhost controllers: the name and the bdev of each.
struct Controllers : sma::DeviceListing {
  std::map<std::string, std::string> bdevs;
};

class VhostSocketManager : public sma::DeviceManager {
 public:
  VhostSocketManager(sma::jsonrpc::Caller& target, std::string prefix)
      : target_(target), prefix_(std::move(prefix)) {}

  std::string_view name() const override { return "vhost_socket"; }
  std::string_view protocol() const override { return "virtio_blk"; }
  sma::DeviceType type() const override { return sma::DEVICE_TYPE_VIRTIO_BLK; }
  sma::DeviceTraits traits() const override { return {.needs_volume = true}; }

  absl::StatusOr<sma::DeviceSpec> Describe(const sma::CreateDeviceRequest& request) const override {
    const sma::virtio_blk::DeviceParameters& params = request.virtio_blk();
    if (params.virtual_id() != 0) return absl::InvalidArgumentError("virtual_id: must be 0");
    sma::DeviceSpec device;
    device.handle = std::string(kHandlePrefix) + std::to_string(params.physical_id());
    *device.params.mutable_virtio_blk() = params;
    return device;
  }

  bool OwnsHandle(std::string_view handle) const override {
    if (!handle.starts_with(kHandlePrefix)) return false;
    std::string_view id = handle.substr(kHandlePrefix.size());
    return !id.empty() && id.find_first_not_of("0123456789") == std::string_view::npos;
  }

  absl::Status Prepare(const sma::base::Context&) override { return absl::OkStatus(); }

  absl::StatusOr<std::optional<sma::ExistingDevice>> FindExisting(
      const sma::base::Context& context, const sma::DeviceSpec& device) override {
    absl::StatusOr<Controllers> controllers = GetControllers(context);
    if (!controllers.ok()) return controllers.status();
    if (!controllers->bdevs.contains(ControllerOf(device))) return std::nullopt;
    return absl::AlreadyExistsError(ControllerOf(device) + " is on the target already");
  }

  sma::OutcomeOr<sma::CreatedDevice> CreateDevice(const sma::base::Context& context,
                                                  const sma::DeviceSpec& device,
                                                  const sma::DeviceVolume* volume) override {
    // The target searches for the bdev only once, but the bdev of a remote volume may appear a
    // little later.
    const auto wait_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(volume->wait).count();
    auto bdev = target_.Call(context, "bdev_get_bdevs",
                             {{"name", volume->bdev_name}, {"timeout", wait_ms}});
    if (!bdev.ok()) return bdev.status();
    auto created = target_.Call(context, "vhost_create_blk_controller",
                                {{"ctrlr", ControllerOf(device)}, {"dev_name", volume->bdev_name}});
    if (!created.ok()) return created.status();
    return sma::CreatedDevice{.handle = device.handle, .attachment = {}};
  }

  sma::Outcome UndoCreate(const sma::base::Context& context, const sma::DeviceSpec& device,
                          const sma::DeviceVolume*) override {
    return DeleteDevice(context, device, {});
  }

  sma::Outcome DeleteDevice(const sma::base::Context& context, const sma::DeviceSpec& device,
                            std::span<const sma::DeviceVolume>) override {
    auto deleted =
        target_.Call(context, "vhost_delete_controller", {{"ctrlr", ControllerOf(device)}});
    if (deleted.ok() || IsNotThere(deleted.status())) return absl::OkStatus();
    return deleted.status();
  }

  absl::StatusOr<std::unique_ptr<sma::DeviceListing>> List(
      const sma::base::Context& context) override {
    absl::StatusOr<Controllers> controllers = GetControllers(context);
    if (!controllers.ok()) return controllers.status();
    return std::make_unique<Controllers>(*std::move(controllers));
  }

  sma::RestoreResult Restore(const sma::base::Context& context,
                             const sma::RestoreRequest& request) override {
    sma::RestoreResult result;
    result.volumes.resize(request.volumes.size());
    absl::StatusOr<Controllers> asked;
    const auto* controllers = static_cast<const Controllers*>(request.listing);
    if (controllers == nullptr) {
      asked = GetControllers(context);
      result.status = asked.status();
      if (!asked.ok()) return result;
      controllers = &*asked;
    }
    if (controllers->bdevs.contains(ControllerOf(request.device))) return result;
    result.differences.push_back(ControllerOf(request.device) + " is missing");
    if (!request.repair || request.volumes.empty()) return result;
    result.status = CreateDevice(context, request.device, &request.volumes.front()).status();
    result.volumes.front().attached_again = result.status.ok();
    return result;
  }

 private:
  std::string ControllerOf(const sma::DeviceSpec& device) const {
    return prefix_ + std::to_string(device.params.virtio_blk().physical_id());
  }

  static bool IsNotThere(const absl::Status& status) {
    auto error = GetTargetError(status);
    return error && error->message == "No such device";
  }

  absl::StatusOr<Controllers> GetControllers(const sma::base::Context& context) {
    auto listed = target_.Call(context, "vhost_get_controllers", nullptr);
    if (!listed.ok()) return listed.status();
    Controllers controllers;
    if (!listed->is_array()) return absl::InternalError("vhost_get_controllers: not a list");
    for (const json& controller : *listed) {
      const json bdev = controller.value("/backend_specific/block/bdev"_json_pointer, json());
      controllers.bdevs[controller.value("ctrlr", "")] = bdev.is_string() ? bdev : json("");
    }
    return controllers;
  }

  sma::jsonrpc::Caller& target_;
  const std::string prefix_;
};

absl::StatusOr<std::unique_ptr<sma::DeviceManager>> Make(sma::jsonrpc::Caller& target,
                                                         const json& params) {
  json prefix = "vm-";
  for (const auto& [key, value] : params.items()) {
    if (key != "prefix") return absl::InvalidArgumentError("params: '" + key + "' is not known");
    if (!value.is_string()) return absl::InvalidArgumentError("params.prefix: must be text");
    prefix = value;
  }
  return std::make_unique<VhostSocketManager>(target, prefix.get<std::string>());
}

absl::Status Load(sma::PluginRegistry& registry) {
  sma::jsonrpc::Caller& target = registry.target();
  return registry.AddDeviceType(
      {.name = "vhost_socket", .protocol = "virtio_blk", .make = [&target](const json& params) {
         return Make(target, params);
       }});
}

}  // namespace

SMA_PLUGIN(Load)
