// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>

#include <memory>

#include "cli/admin_text.h"
#include "cli/commands.h"
#include "cli/volume_options.h"
#include "sma.pb.h"
#include "sma_admin.pb.h"

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
  return session.CallAndPrint("AttachVolume", request, &response,
                              fmt::format("{} attached to {}", arguments.volume, arguments.handle));
}

absl::Status Detach(Session& session, const VolumeArguments& arguments) {
  absl::StatusOr<std::string> id = ParseVolumeId(arguments.volume);
  if (!id.ok()) return id.status();
  sma::DetachVolumeRequest request;
  request.set_device_handle(arguments.handle);
  request.set_volume_id(*id);
  // Queried before, because DetachVolume also succeeds for a volume that is not attached.
  admin::v1::GetVolumeRequest query;
  query.set_volume_id(*id);
  admin::v1::Volume known;
  const absl::Status found = session.CallAdmin("GetVolume", query, &known);
  const bool is_elsewhere = found.ok() && known.device_handle() != arguments.handle;
  const bool was_attached = !absl::IsNotFound(found) && !is_elsewhere;
  std::string line =
      fmt::format("{} {} {}", arguments.volume,
                  was_attached ? "detached from" : "was not attached to", arguments.handle);
  if (is_elsewhere) line += ", it is attached to " + Printable(known.device_handle());
  sma::DetachVolumeResponse response;
  return session.CallAndPrint("DetachVolume", request, &response, line);
}

void AddPositionals(CLI::App& command, VolumeArguments& arguments) {
  AddHandle(command, arguments.handle);
  command.add_option("volume", arguments.volume, "Id of the volume")->required()->type_name("UUID");
}

}  // namespace

void AddVolumeCommands(CLI::App& app, Session& session) {
  CLI::App* volume = app.add_subcommand("volume", "Attach, list and detach volumes");
  volume->require_subcommand(1);

  auto arguments = std::make_shared<VolumeArguments>();
  CLI::App* attach = volume->add_subcommand("attach", "Make a volume visible through a device");
  AddPositionals(*attach, *arguments);
  arguments->options.AddTo(*attach);
  SetAction(*attach, session, arguments, &Attach);
  attach->footer(R"(Examples:
  # a local bdev of the target
  smactl volume attach nvmf-tcp:nqn.2024-01.com.example:host1 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11
  # a volume on a storage node, found through its discovery service
  smactl volume attach nvmf-tcp:nqn.2024-01.com.example:host1 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11 \
      --discovery tcp:192.0.2.10:8009 --discovery tcp:192.0.2.11:8009
  # the same over two paths, without a discovery service
  smactl volume attach nvmf-tcp:nqn.2024-01.com.example:host1 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11 \
      --subnqn nqn.2024-01.com.example:disks --direct tcp:192.0.2.10:4420 --direct tcp:192.0.2.11:4420
  # a logical unit of an iSCSI target
  smactl volume attach nvmf-tcp:nqn.2024-01.com.example:host1 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11 \
      --iscsi 192.0.2.10 --target-iqn iqn.2024-01.com.example:disks --lun 1 \
      --initiator-iqn iqn.2024-01.com.example:agent --chap-user agent --chap-secret-file /etc/keys/chap
  # encrypted
  smactl volume attach nvme:nqn.2016-06.io.spdk:vfiouser-3 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11 \
      --key-file /etc/keys/volume.key --cipher aes-xts)");

  CLI::App* detach = volume->add_subcommand("detach", "Remove a volume from a device");
  AddPositionals(*detach, *arguments);
  SetAction(*detach, session, arguments, &Detach);
  detach->footer(R"(Examples:
  smactl volume detach nvmf-tcp:nqn.2024-01.com.example:host1 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11)");

  AddVolumeListCommands(*volume, session);
}

}  // namespace sma::cli
