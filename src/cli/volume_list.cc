// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>

#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "cli/admin_text.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/volume_options.h"
#include "sma_admin.pb.h"

namespace sma::cli {
namespace {

struct VolumeListArguments {
  std::string handle;
  std::string volume;
};

using SharedVolumeListArguments = std::shared_ptr<VolumeListArguments>;

// Fetches all pages.
absl::StatusOr<admin::v1::ListVolumesResponse> ListAllVolumes(Session& session,
                                                              const std::string& device_handle) {
  admin::v1::ListVolumesResponse all;
  admin::v1::ListVolumesRequest request;
  request.set_device_handle(device_handle);
  do {
    admin::v1::ListVolumesResponse page;
    absl::Status status = session.CallAdmin("ListVolumes", request, &page);
    if (!status.ok()) return status;
    request.set_page_token(page.next_page_token());
    page.clear_next_page_token();
    all.MergeFrom(page);
  } while (!request.page_token().empty());
  return all;
}

// Returns how the target is connected to the volume.
const char* ConnectionText(const admin::v1::Volume& volume) {
  if (volume.has_nvmf()) return "nvmf";
  if (volume.has_iscsi()) return "iscsi";
  return "local";
}

// Returns the name on the command line, for example "aes-xts".
std::string CipherText(const admin::v1::Volume& volume) {
  if (!volume.has_encryption()) return "-";
  return absl::StrReplaceAll(
      absl::AsciiStrToLower(VolumeCryptoParameters::Cipher_Name(volume.encryption().cipher())),
      {{"_", "-"}});
}

absl::Status ListVolumes(Session& session, const VolumeListArguments& arguments) {
  absl::StatusOr<admin::v1::ListVolumesResponse> all = ListAllVolumes(session, arguments.handle);
  if (!all.ok()) return all.status();
  if (session.options.json) return session.PrintJson(*all);
  Table table({"VOLUME", "DEVICE", "STATE", "CONNECTION", "CIPHER", "SINCE"});
  for (const admin::v1::Volume& volume : all->volumes()) {
    table.Add({VolumeText(volume.volume_id()), volume.device_handle(), StateCell(volume.state()),
               ConnectionText(volume), CipherText(volume), TimeText(volume.state_since())});
  }
  table.Print(session.streams.out, session.streams.use_colour);
  return absl::OkStatus();
}

absl::Status ShowVolume(Session& session, const VolumeListArguments& arguments) {
  absl::StatusOr<std::string> id = ParseVolumeId(arguments.volume);
  if (!id.ok()) return id.status();
  admin::v1::GetVolumeRequest request;
  request.set_volume_id(*id);
  admin::v1::Volume volume;
  absl::Status status = session.CallAdmin("GetVolume", request, &volume);
  if (!status.ok()) return status;
  if (session.options.json) return session.PrintJson(volume);
  Properties properties;
  properties.Add("volume", VolumeText(volume.volume_id()));
  properties.Add("device", volume.device_handle());
  properties.Add("state", StateCell(volume.state()));
  properties.Add("since", TimeText(volume.state_since()));
  properties.Add("attached", TimeText(volume.attached()));
  properties.Add("connection", ConnectionText(volume));
  if (volume.has_nvmf()) AddParams(volume.nvmf(), properties);
  if (volume.has_iscsi()) AddParams(volume.iscsi(), properties);
  properties.Add("bdev", volume.bdev().empty() ? "-" : volume.bdev());
  properties.Add("cipher", CipherText(volume));
  AddCommon(volume, properties);
  properties.Print(session.streams.out, session.streams.use_colour);
  return absl::OkStatus();
}

}  // namespace

void AddVolumeListCommands(CLI::App& volume, Session& session) {
  auto arguments = std::make_shared<VolumeListArguments>();
  CLI::App* list = volume.add_subcommand("list", "List the volumes, in the order of their ids");
  list->add_option("--device", arguments->handle, "Only volumes of this device")
      ->type_name("HANDLE");
  SetAction(*list, session, arguments, &ListVolumes);
  list->footer(R"(Examples:
  smactl volume list
  smactl volume list --device nvmf-tcp:nqn.2024-01.com.example:disk1)");

  CLI::App* show = volume.add_subcommand("show", "Show the details of a volume, without its keys");
  show->add_option("volume", arguments->volume, "Id of the volume")->required()->type_name("UUID");
  SetAction(*show, session, arguments, &ShowVolume);
  show->footer(R"(Examples:
  smactl volume show 2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11)");
}

}  // namespace sma::cli
