#include <fmt/format.h>

#include <memory>

#include "cli/admin_text.h"
#include "cli/commands.h"
#include "cli/limits.h"
#include "cli/output.h"
#include "sma_admin.pb.h"

namespace sma::cli {
namespace {

struct DeviceListArguments {
  std::string type;
  std::string handle;
};

using SharedDeviceListArguments = std::shared_ptr<DeviceListArguments>;

// All pages.
absl::StatusOr<admin::v1::ListDevicesResponse> ListAllDevices(Session& session, DeviceType type) {
  admin::v1::ListDevicesResponse all;
  admin::v1::ListDevicesRequest request;
  request.set_type(type);
  do {
    admin::v1::ListDevicesResponse page;
    absl::Status status = session.CallAdmin("ListDevices", request, &page);
    if (!status.ok()) return status;
    request.set_page_token(page.next_page_token());
    page.clear_next_page_token();
    all.MergeFrom(page);
  } while (!request.page_token().empty());
  return all;
}

absl::Status ListDevices(Session& session, const DeviceListArguments& arguments) {
  const DeviceType type = ParseDeviceType(arguments.type);
  if (type == DEVICE_TYPE_INVALID && !arguments.type.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("device type '{}' is not nvmf-tcp, nvme or virtio-blk", arguments.type));
  }
  absl::StatusOr<admin::v1::ListDevicesResponse> all = ListAllDevices(session, type);
  if (!all.ok()) return all.status();
  if (session.options.json) return session.PrintJson(*all);
  Table table({"HANDLE", "TYPE", "STATE", "VOLUMES", "SINCE"});
  for (const admin::v1::Device& device : all->devices()) {
    table.Add({device.handle(), DeviceTypeText(device.type()), StateCell(device.state()),
               std::to_string(device.volume_ids_size()), TimeText(device.state_since())});
  }
  table.Print(session.streams.out, session.streams.use_colour);
  return absl::OkStatus();
}

void AddDeviceParams(const admin::v1::Device& device, Properties& properties) {
  if (device.has_nvmf_tcp()) AddParams(device.nvmf_tcp(), properties);
  if (device.has_nvme()) AddParams(device.nvme(), properties);
  if (device.has_virtio_blk()) AddParams(device.virtio_blk(), properties);
}

absl::Status ShowDevice(Session& session, const DeviceListArguments& arguments) {
  admin::v1::GetDeviceRequest request;
  request.set_handle(arguments.handle);
  admin::v1::Device device;
  absl::Status status = session.CallAdmin("GetDevice", request, &device);
  if (!status.ok()) return status;
  if (session.options.json) return session.PrintJson(device);
  Properties properties;
  properties.Add("handle", device.handle());
  properties.Add("type", DeviceTypeText(device.type()));
  properties.Add("manager", device.manager());
  properties.Add("state", StateCell(device.state()));
  properties.Add("since", TimeText(device.state_since()));
  properties.Add("created", TimeText(device.created()));
  AddDeviceParams(device, properties);
  for (const std::string& id : device.volume_ids()) properties.Add("volume", VolumeText(id));
  AddLimits(device.qos(), properties);
  AddConditions(device.conditions(), properties);
  if (device.has_last_error()) {
    properties.Add("last error", {ErrorText(device.last_error()), Colour::kRed});
  }
  properties.Print(session.streams.out, session.streams.use_colour);
  return absl::OkStatus();
}

}  // namespace

void AddDeviceListCommands(CLI::App& device, Session& session) {
  auto arguments = std::make_shared<DeviceListArguments>();
  CLI::App* list =
      device.add_subcommand("list", "Prints the devices, in the order of their handles");
  list->add_option("--type", arguments->type, "Only devices of a type: nvmf-tcp, nvme, virtio-blk")
      ->type_name("TYPE");
  list->callback([&session, arguments] {
    session.action = [&session, arguments] { return ListDevices(session, *arguments); };
  });
  list->footer(R"(Examples:
  smactl device list
  smactl device list --type nvmf-tcp --json)");

  CLI::App* show = device.add_subcommand("show", "Prints all that is known of a device");
  show->add_option("handle", arguments->handle, "Handle of the device")
      ->required()
      ->type_name("HANDLE");
  show->callback([&session, arguments] {
    session.action = [&session, arguments] { return ShowDevice(session, *arguments); };
  });
  show->footer(R"(Examples:
  smactl device show nvmf-tcp:nqn.2024-01.com.example:disk1)");
}

}  // namespace sma::cli
