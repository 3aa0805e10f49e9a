#include <fmt/format.h>

#include <memory>

#include "cli/commands.h"
#include "cli/volume_options.h"
#include "sma.pb.h"

namespace sma::cli {
namespace {

struct VolumeArguments {
  std::string handle;
  std::string volume;
  VolumeOptions options;
};

absl::Status Attach(Session& session, const VolumeArguments& arguments) {
  absl::StatusOr<sma::VolumeParameters> volume =
      arguments.options.Build(arguments.volume, session.streams.in);
  if (!volume.ok()) return volume.status();
  sma::AttachVolumeRequest request;
  request.set_device_handle(arguments.handle);
  *request.mutable_volume() = *std::move(volume);
  sma::AttachVolumeResponse response;
  absl::Status status =
      session.Call("/sma.StorageManagementAgent/AttachVolume", request, &response);
  if (!status.ok()) return status;
  if (session.options.json) return session.PrintJson(response);
  session.streams.out << fmt::format("{} attached to {}\n", arguments.volume, arguments.handle);
  return absl::OkStatus();
}

absl::Status Detach(Session& session, const VolumeArguments& arguments) {
  absl::StatusOr<std::string> id = ParseVolumeId(arguments.volume);
  if (!id.ok()) return id.status();
  sma::DetachVolumeRequest request;
  request.set_device_handle(arguments.handle);
  request.set_volume_id(*id);
  sma::DetachVolumeResponse response;
  absl::Status status =
      session.Call("/sma.StorageManagementAgent/DetachVolume", request, &response);
  if (!status.ok()) return status;
  if (session.options.json) return session.PrintJson(response);
  session.streams.out << fmt::format("{} detached from {}\n", arguments.volume, arguments.handle);
  return absl::OkStatus();
}

void AddPositionals(CLI::App& command, VolumeArguments& arguments) {
  command.add_option("handle", arguments.handle, "Handle of the device")
      ->required()
      ->type_name("HANDLE");
  command.add_option("volume", arguments.volume, "Id of the volume")->required()->type_name("UUID");
}

}  // namespace

void AddVolumeCommands(CLI::App& app, Session& session) {
  CLI::App* volume =
      app.add_subcommand("volume", "Attach volumes to devices, list and detach them");
  volume->require_subcommand(1);

  auto arguments = std::make_shared<VolumeArguments>();
  CLI::App* attach = volume->add_subcommand("attach", "Makes a volume visible through a device");
  AddPositionals(*attach, *arguments);
  arguments->options.AddTo(*attach);
  attach->callback([&session, arguments] {
    session.action = [&session, arguments] { return Attach(session, *arguments); };
  });
  attach->footer(R"(Examples:
  # a bdev that the target already has
  smactl volume attach nvmf-tcp:nqn.2024-01.com.example:host1 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11
  # a volume on another machine, found through that machine's discovery service
  smactl volume attach nvmf-tcp:nqn.2024-01.com.example:host1 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11 \
      --discovery tcp:192.0.2.10:8009 --discovery tcp:192.0.2.11:8009
  # over two paths to its subsystem, without a discovery service
  smactl volume attach nvmf-tcp:nqn.2024-01.com.example:host1 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11 \
      --subnqn nqn.2024-01.com.example:disks --direct tcp:192.0.2.10:4420 --direct tcp:192.0.2.11:4420
  # a logical unit of an iSCSI target
  smactl volume attach nvmf-tcp:nqn.2024-01.com.example:host1 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11 \
      --iscsi 192.0.2.10 --target-iqn iqn.2024-01.com.example:disks --lun 1 \
      --initiator-iqn iqn.2024-01.com.example:agent --chap-user agent --chap-secret-file /etc/keys/chap
  # encrypted
  smactl volume attach nvme:nqn.2016-06.io.spdk:vfiouser-3 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11 \
      --key-file /etc/keys/volume.key --cipher aes-xts)");

  CLI::App* detach = volume->add_subcommand("detach", "Takes a volume off a device");
  AddPositionals(*detach, *arguments);
  detach->callback([&session, arguments] {
    session.action = [&session, arguments] { return Detach(session, *arguments); };
  });
  detach->footer(R"(Examples:
  smactl volume detach nvmf-tcp:nqn.2024-01.com.example:host1 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11)");

  AddVolumeListCommands(*volume, session);
}

}  // namespace sma::cli
