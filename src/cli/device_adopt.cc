// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/admin_text.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "sma/device_params.h"
#include "sma_admin.pb.h"

namespace sma::cli {
namespace {

using admin::v1::AdoptionCandidate;
using admin::v1::ListAdoptionCandidatesResponse;

struct AdoptArguments {
  std::vector<std::string> handles;
  bool all = false;
  bool yes = false;
};

void PrintCandidates(Session& session, const ListAdoptionCandidatesResponse& response) {
  Table table({"HANDLE", "TYPE", "VOLUMES", "ADOPTION"});
  for (const AdoptionCandidate& candidate : response.candidates()) {
    Cell adoption = candidate.obstacle().empty() ? Cell("possible", Colour::kGreen)
                                                 : Cell(candidate.obstacle(), Colour::kRed);
    table.Add({candidate.handle(), DeviceTypeText(candidate.type()),
               std::to_string(candidate.volumes_size()), std::move(adoption)});
  }
  table.Print(session.streams.out, session.streams.use_colour);
}

// Shows the candidate; returns true if the operator confirms it.
bool Confirm(Session& session, const AdoptionCandidate& candidate) {
  Properties properties;
  properties.Add("handle", candidate.handle());
  if (const auto* params = ParamsOf(candidate)) AddParams(*params, properties);
  for (const AdoptionCandidate::Volume& volume : candidate.volumes()) {
    properties.Add("volume",
                   fmt::format("{} (bdev {})", VolumeText(volume.volume_id()), volume.bdev()));
  }
  properties.Print(session.streams.err, false);
  session.streams.err << "Adopt this device and its volumes? [y/N] " << std::flush;
  std::string answer;
  std::getline(session.streams.in, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

absl::Status Adopt(Session& session, const AdoptionCandidate& candidate, bool yes) {
  if (!yes && !Confirm(session, candidate)) {
    return absl::AbortedError(fmt::format("{}: not confirmed", candidate.handle()));
  }
  admin::v1::AdoptDeviceRequest request;
  request.set_handle(candidate.handle());
  for (const AdoptionCandidate::Volume& volume : candidate.volumes()) {
    request.add_volume_ids(volume.volume_id());
  }
  admin::v1::Device device;
  absl::Status status = session.CallAdmin("AdoptDevice", request, &device);
  if (!status.ok()) return status;
  if (session.options.json) return session.PrintJson(device, /*one_line=*/true);
  session.streams.out << fmt::format("{} adopted\n", device.handle());
  return absl::OkStatus();
}

// Returns true if the device is already in the agent's record.
bool IsAdopted(Session& session, const std::string& handle) {
  admin::v1::GetDeviceRequest request;
  request.set_handle(handle);
  admin::v1::Device device;
  return session.CallAdmin("GetDevice", request, &device).ok();
}

absl::StatusOr<AdoptionCandidate> FindCandidate(const ListAdoptionCandidatesResponse& response,
                                                const std::string& handle) {
  auto found = std::find_if(response.candidates().begin(), response.candidates().end(),
                            [&](const AdoptionCandidate& c) { return c.handle() == handle; });
  if (found != response.candidates().end()) return *found;
  return absl::NotFoundError(fmt::format(
      "{}: no device that is on the target but not in the record has this handle", handle));
}

absl::Status AdoptDevices(Session& session, const AdoptArguments& arguments) {
  ListAdoptionCandidatesResponse response;
  absl::Status status = session.CallAdmin("ListAdoptionCandidates",
                                          admin::v1::ListAdoptionCandidatesRequest(), &response);
  if (!status.ok()) return status;
  if (arguments.handles.empty() && !arguments.all) {
    if (session.options.json) return session.PrintJson(response);
    PrintCandidates(session, response);
    return absl::OkStatus();
  }
  std::vector<AdoptionCandidate> chosen;
  for (const AdoptionCandidate& candidate : response.candidates()) {
    if (arguments.all && candidate.obstacle().empty()) chosen.push_back(candidate);
  }
  for (const std::string& handle : arguments.handles) {
    absl::StatusOr<AdoptionCandidate> candidate = FindCandidate(response, handle);
    if (!candidate.ok() && IsAdopted(session, handle)) continue;
    if (!candidate.ok()) return candidate.status();
    chosen.push_back(*std::move(candidate));
  }
  for (const AdoptionCandidate& candidate : chosen) {
    status = Adopt(session, candidate, arguments.yes);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

void AddDeviceAdoptCommand(CLI::App& device, Session& session) {
  CLI::App* command = device.add_subcommand(
      "adopt", "Adopt devices, with their volumes, that another agent has created on the target");
  auto arguments = std::make_shared<AdoptArguments>();
  CLI::Option* handles =
      command
          ->add_option(
              "handle", arguments->handles,
              "Handles of the devices; without any: list the devices that could be adopted")
          ->type_name("HANDLE");
  command->add_flag("--all", arguments->all, "Adopt all devices that can be adopted")
      ->excludes(handles);
  command->add_flag("--yes,-y", arguments->yes, "Do not ask for confirmation");
  SetAction(*command, session, arguments, &AdoptDevices);
  command->footer(
      R"(Nothing changes on the target, and hosts are not affected. Each device is shown, and adopted after
confirmation.

Examples:
  smactl device adopt
  smactl device adopt nvmf-tcp:nqn.2024-01.com.example:disk1
  smactl device adopt --all --yes)");
}

}  // namespace sma::cli
