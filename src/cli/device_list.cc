// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>

#include <memory>

#include "cli/admin_text.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "sma/device_params.h"
#include "sma_admin.pb.h"

namespace sma::cli {
namespace {

struct DeviceListArguments {
  std::string type;
  std::string handle;
};

using SharedDeviceListArguments = std::shared_ptr<DeviceListArguments>;

// Fetches all pages.
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
  absl::StatusOr<DeviceType> type = DEVICE_TYPE_INVALID;  // all
  if (!arguments.type.empty()) type = ParseDeviceType(arguments.type);
  if (!type.ok()) return type.status();
  absl::StatusOr<admin::v1::ListDevicesResponse> all = ListAllDevices(session, *type);
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
  if (const auto* params = ParamsOf(device)) AddParams(*params, properties);
  for (const std::string& id : device.volume_ids()) properties.Add("volume", VolumeText(id));
  AddCommon(device, properties);
  properties.Print(session.streams.out, session.streams.use_colour);
  return absl::OkStatus();
}

}  // namespace

void AddDeviceListCommands(CLI::App& device, Session& session) {
  auto arguments = std::make_shared<DeviceListArguments>();
  CLI::App* list = device.add_subcommand("list", "List the devices, in the order of their handles");
  list->add_option("--type", arguments->type, "Only devices of this type: " + DeviceTypeNames())
      ->type_name("TYPE");
  SetAction(*list, session, arguments, &ListDevices);
  list->footer(R"(Examples:
  smactl device list
  smactl device list --type nvmf-tcp --json)");

  CLI::App* show = device.add_subcommand("show", "Show the details of a device");
  AddHandle(*show, arguments->handle);
  SetAction(*show, session, arguments, &ShowDevice);
  show->footer(R"(Examples:
  smactl device show nvmf-tcp:nqn.2024-01.com.example:disk1)");
}

}  // namespace sma::cli
