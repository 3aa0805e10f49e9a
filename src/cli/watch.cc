// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>
#include <grpcpp/client_context.h>

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "cli/admin_text.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/units.h"
#include "sma_admin.grpc.pb.h"

namespace sma::cli {
namespace {

using admin::v1::WatchResponse;

constexpr char kRemoved[] = "removed";

struct WatchArguments {
  bool initial_state = false;
  std::string handle;
  std::string duration;
};

// While the target does not answer, the states of all objects are unknown, which the agent does not
// send one by one.
Cell TargetCell(const admin::v1::Status& status) {
  if (!status.target().connected()) {
    return {"not connected, all states are unknown", Colour::kRed};
  }
  if (status.serving()) return {"connected", Colour::kGreen};
  const std::string& why = status.not_serving_reason();
  return {"connected, not served" + (why.empty() ? why : ": " + Printable(why)), Colour::kRed};
}

// Returns the state of a device or volume, with the reason if it is not as requested.
template <typename Object>
Cell ObjectCell(const Object& object) {
  Cell cell = StateCell(object.state());
  if (object.state() == admin::v1::STATE_READY) return cell;
  if (object.has_last_error()) {
    const auto code = static_cast<absl::StatusCode>(object.last_error().code());
    cell.text += fmt::format("  {}: {}", absl::StatusCodeToString(code),
                             Printable(object.last_error().message()));
    return cell;
  }
  for (const admin::v1::Condition& condition : object.conditions()) {
    if (condition.status() != admin::v1::Condition::STATUS_FALSE) continue;
    if (condition.message().empty()) continue;
    cell.text += "  " + Printable(condition.message());
    return cell;
  }
  return cell;
}

/// The last printed state of each object, by kind and name: changes that are not printed, for
/// example of a condition's time, cause no line.
using Printed = std::map<std::pair<std::string, std::string>, std::string>;

// Prints the time, the kind of object, its name, and its new state.
void PrintLine(Session& session, const WatchResponse& change, Printed& printed) {
  const bool use_colour = session.streams.use_colour;
  auto print = [&](const char* kind, const std::string& object, const Cell& state) {
    std::string& last = printed[{kind, object}];
    if (last == state.text) return;
    last = state.text;
    if (state.text == kRemoved) printed.erase({kind, object});
    session.streams.out << fmt::format("{}  {:<7} {}  {}\n", TimeText(change.time()), kind, object,
                                       Render(state, use_colour));
  };
  switch (change.change_case()) {
    case WatchResponse::kDevice:
      return print("device", change.device().handle(), ObjectCell(change.device()));
    case WatchResponse::kVolume:
      return print("volume", VolumeText(change.volume().volume_id()), ObjectCell(change.volume()));
    case WatchResponse::kDeviceRemoved:
      return print("device", change.device_removed(), kRemoved);
    case WatchResponse::kVolumeRemoved:
      return print("volume", VolumeText(change.volume_removed()), kRemoved);
    case WatchResponse::kStatus:
      return print("target", change.status().target().socket(), TargetCell(change.status()));
    case WatchResponse::kSynced:
      return print("sync", "initial state", "complete");
    case WatchResponse::CHANGE_NOT_SET:
      return;
  }
}

absl::Status Watch(Session& session, const WatchArguments& arguments) {
  grpc::ClientContext context;
  if (!arguments.duration.empty()) {
    absl::StatusOr<std::chrono::milliseconds> duration = ParseDuration(arguments.duration);
    if (!duration.ok()) return duration.status();
    context.set_deadline(std::chrono::system_clock::now() + *duration);
  }
  auto channel = session.Channel();
  if (!channel.ok()) return channel.status();
  admin::v1::WatchRequest request;
  request.set_initial_state(arguments.initial_state);
  request.set_device_handle(arguments.handle);
  auto stub = admin::v1::Admin::NewStub(*channel);
  std::unique_ptr<grpc::ClientReader<WatchResponse>> reader = stub->Watch(&context, request);
  WatchResponse change;
  Printed printed_states;
  while (session.streams.out && reader->Read(&change)) {
    if (session.options.json) {
      absl::Status printed = session.PrintJson(change, /*one_line=*/true);
      if (!printed.ok()) return printed;
    } else {
      PrintLine(session, change, printed_states);
    }
    session.streams.out.flush();
  }
  if (!session.streams.out) context.TryCancel();
  const grpc::Status status = reader->Finish();
  const bool asked_for =
      !arguments.duration.empty() && status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
  return asked_for ? absl::OkStatus() : session.ErrorOf(status);
}

}  // namespace

void AddWatchCommand(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "watch",
      "Print changes of devices, volumes and the target as they happen, until interrupted");
  auto arguments = std::make_shared<WatchArguments>();
  command->add_flag("--initial-state", arguments->initial_state,
                    "Print the current state of all devices and volumes first");
  command->add_option("--device", arguments->handle, "Only this device and its volumes")
      ->type_name("HANDLE");
  command->add_option("--for", arguments->duration, "End after this time; --timeout does not apply")
      ->type_name("TIME");
  SetAction(*command, session, arguments, &Watch);
  command->footer(R"(With --json each line is one JSON object.

Examples:
  smactl watch --initial-state
  smactl watch --device nvmf-tcp:nqn.2024-01.com.example:disk1 --for 10m --json)");
}

}  // namespace sma::cli
