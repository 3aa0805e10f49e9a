// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "base/ip_address.h"
#include "cli/commands.h"
#include "cli/units.h"
#include "cli/volume_options.h"
#include "sma.pb.h"
#include "sma_admin.pb.h"

namespace sma::cli {
namespace {

struct DeviceArguments {
  std::string handle;

  // Options for nvmf-tcp:
  std::string nqn;
  std::string adrfam;
  std::string traddr;
  std::string trsvcid = "4420";
  std::vector<std::string> hosts;
  bool allow_any_host = false;

  // Options for nvme and virtio-blk:
  std::string physical_id;
  std::string virtual_id = "0";

  std::optional<std::string> volume;
  VolumeOptions volume_options;
};

using SharedDeviceArguments = std::shared_ptr<DeviceArguments>;

absl::Status Create(Session& session, const DeviceArguments& arguments,
                    sma::CreateDeviceRequest request) {
  if (arguments.volume) {
    absl::StatusOr<sma::VolumeParameters> volume =
        arguments.volume_options.Build(*arguments.volume, session.streams.in);
    if (!volume.ok()) return volume.status();
    *request.mutable_volume() = *std::move(volume);
  } else if (arguments.volume_options.any()) {
    return absl::InvalidArgumentError("options of a volume require --volume");
  }
  sma::CreateDeviceResponse response;
  absl::Status status =
      session.Call("/sma.StorageManagementAgent/CreateDevice", request, &response);
  if (!status.ok()) return status;
  if (session.options.json) return session.PrintJson(response);
  session.streams.out << response.handle() << '\n';
  return absl::OkStatus();
}

absl::Status CreateNvmfTcp(Session& session, const DeviceArguments& arguments) {
  sma::CreateDeviceRequest request;
  auto* params = request.mutable_nvmf_tcp();
  params->set_subnqn(arguments.nqn);
  const auto ip = base::IpAddress::Parse(arguments.traddr);
  const bool ipv6 = ip && ip->is_v6();
  params->set_adrfam(!arguments.adrfam.empty() ? arguments.adrfam : ipv6 ? "ipv6" : "ipv4");
  params->set_traddr(arguments.traddr);
  params->set_trsvcid(arguments.trsvcid);
  params->set_allow_any_host(arguments.allow_any_host);
  for (const std::string& host : arguments.hosts) params->add_hosts(host);
  return Create(session, arguments, std::move(request));
}

// Fills in `params`, the DeviceParameters of a device that is a PCI function.
template <typename Params>
absl::Status SetPciIds(const DeviceArguments& arguments, Params& params) {
  absl::StatusOr<uint32_t> physical_id = ParseUint32(arguments.physical_id);
  if (!physical_id.ok()) return physical_id.status();
  absl::StatusOr<uint32_t> virtual_id = ParseUint32(arguments.virtual_id);
  if (!virtual_id.ok()) return virtual_id.status();
  params.set_physical_id(*physical_id);
  params.set_virtual_id(*virtual_id);
  return absl::OkStatus();
}

absl::Status CreateNvme(Session& session, const DeviceArguments& arguments) {
  sma::CreateDeviceRequest request;
  absl::Status status = SetPciIds(arguments, *request.mutable_nvme());
  return status.ok() ? Create(session, arguments, std::move(request)) : status;
}

absl::Status CreateVirtioBlk(Session& session, const DeviceArguments& arguments) {
  sma::CreateDeviceRequest request;
  absl::Status status = SetPciIds(arguments, *request.mutable_virtio_blk());
  return status.ok() ? Create(session, arguments, std::move(request)) : status;
}

absl::Status Delete(Session& session, const DeviceArguments& arguments) {
  sma::DeleteDeviceRequest request;
  request.set_handle(arguments.handle);
  // Queried before, because DeleteDevice also succeeds for a device that does not exist.
  admin::v1::GetDeviceRequest query;
  query.set_handle(arguments.handle);
  admin::v1::Device known;
  const bool exists = !absl::IsNotFound(session.CallAdmin("GetDevice", query, &known));
  sma::DeleteDeviceResponse response;
  return session.CallAndPrint("DeleteDevice", request, &response,
                              exists ? fmt::format("{} deleted", arguments.handle)
                                     : fmt::format("there was no device {}", arguments.handle));
}

CLI::Option* AddVolume(CLI::App& command, const std::string& description,
                       const SharedDeviceArguments& arguments) {
  CLI::Option* option = command.add_option("--volume", arguments->volume, description);
  arguments->volume_options.AddTo(command);
  return option->type_name("UUID");
}

void AddNvmfTcp(CLI::App& create, Session& session, const SharedDeviceArguments& arguments) {
  CLI::App* command = create.add_subcommand(
      "nvmf-tcp", "Create an NVMe-oF subsystem that hosts reach over NVMe/TCP");
  command->add_option("--nqn", arguments->nqn, "NQN of the subsystem")
      ->required()
      ->type_name("NQN");
  command->add_option("--traddr", arguments->traddr, "Address to listen on")
      ->required()
      ->type_name("IP");
  command->add_option("--trsvcid", arguments->trsvcid, "TCP port to listen on")
      ->capture_default_str()
      ->type_name("PORT");
  command->add_option("--adrfam", arguments->adrfam, "ipv4 or ipv6; default: that of the address")
      ->type_name("FAMILY");
  command->add_option("--host", arguments->hosts, "NQN of a host that may connect; may be repeated")
      ->allow_extra_args(false)
      ->type_name("NQN");
  command->add_flag("--allow-any-host", arguments->allow_any_host, "Allow every host to connect");
  AddVolume(*command, "Volume to attach in the same step", arguments);
  SetAction(*command, session, arguments, &CreateNvmfTcp);
  command->footer(R"(Prints the handle of the device.

Examples:
  smactl device create nvmf-tcp --nqn nqn.2024-01.com.example:disk1 --traddr 192.0.2.1 --allow-any-host
  smactl device create nvmf-tcp --nqn nqn.2024-01.com.example:disk2 --traddr 2001:db8::1 --trsvcid 4421 \
      --host nqn.2014-08.org.nvmexpress:uuid:2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11 \
      --volume 8f0c3a52-12c8-4f2e-8c43-5f0d5e7d9a01)");
}

void AddPciIds(CLI::App& command, const SharedDeviceArguments& arguments) {
  command
      .add_option("--physical-id", arguments->physical_id,
                  "Slot of the PCI function, counted over all buses in the order of the "
                  "agent's configuration")
      ->required()
      ->type_name("N");
  command
      .add_option("--virtual-id", arguments->virtual_id, "Number of a virtual function (SR-IOV)")
      ->capture_default_str()
      ->type_name("N");
}

void AddNvme(CLI::App& create, Session& session, const SharedDeviceArguments& arguments) {
  CLI::App* command = create.add_subcommand(
      "nvme", "Create an NVMe controller as a PCI function of a VM (vfio-user)");
  AddPciIds(*command, arguments);
  AddVolume(*command, "Volume to attach in the same step", arguments);
  SetAction(*command, session, arguments, &CreateNvme);
  command->footer(R"(Prints the handle of the device.

Examples:
  smactl device create nvme --physical-id 3 --virtual-id 0
  smactl device create nvme --physical-id 33 --volume 8f0c3a52-12c8-4f2e-8c43-5f0d5e7d9a01)");
}

void AddVirtioBlk(CLI::App& create, Session& session, const SharedDeviceArguments& arguments) {
  CLI::App* command = create.add_subcommand(
      "virtio-blk", "Create a virtio-blk disk as a PCI function of a VM (vhost-user)");
  AddPciIds(*command, arguments);
  AddVolume(*command, "Volume of the disk", arguments)->required();
  SetAction(*command, session, arguments, &CreateVirtioBlk);
  command->footer(R"(Prints the handle of the device.

Examples:
  smactl device create virtio-blk --physical-id 0 --volume 8f0c3a52-12c8-4f2e-8c43-5f0d5e7d9a01
  smactl device create virtio-blk --physical-id 1 --volume 8f0c3a52-12c8-4f2e-8c43-5f0d5e7d9a01 \
      --discovery tcp:192.0.2.10:8009)");
}

}  // namespace

void AddDeviceCommands(CLI::App& app, Session& session) {
  CLI::App* device = app.add_subcommand("device", "Create, list, adopt and delete devices");
  device->require_subcommand(1);
  auto arguments = std::make_shared<DeviceArguments>();

  CLI::App* create = device->add_subcommand("create", "Create a device and print its handle");
  create->require_subcommand(1);
  AddNvmfTcp(*create, session, arguments);
  AddNvme(*create, session, arguments);
  AddVirtioBlk(*create, session, arguments);

  CLI::App* remove =
      device->add_subcommand("delete", "Delete a device; volumes attached to it are detached");
  AddHandle(*remove, arguments->handle);
  SetAction(*remove, session, arguments, &Delete);
  remove->footer(R"(Examples:
  smactl device delete nvmf-tcp:nqn.2024-01.com.example:disk1)");

  AddDeviceListCommands(*device, session);
  AddDeviceAdoptCommand(*device, session);
}

}  // namespace sma::cli
