#include <fmt/format.h>
#include <grpcpp/client_context.h>

#include <memory>

#include "cli/admin_text.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/units.h"
#include "sma_admin.grpc.pb.h"

namespace sma::cli {
namespace {

using admin::v1::WatchResponse;

struct WatchArguments {
  bool initial_state = false;
  std::string handle;
  std::string duration;
};

// What changed, of which object, and into what.
void PrintLine(Session& session, const WatchResponse& change) {
  const bool use_colour = session.streams.use_colour;
  auto print = [&](const char* kind, const std::string& object, const Cell& state) {
    session.streams.out << fmt::format("{}  {:<7} {}  {}\n", TimeText(change.time()), kind, object,
                                       Render(state, use_colour));
  };
  switch (change.change_case()) {
    case WatchResponse::kDevice:
      return print("device", change.device().handle(), StateCell(change.device().state()));
    case WatchResponse::kVolume:
      return print("volume", VolumeText(change.volume().volume_id()),
                   StateCell(change.volume().state()));
    case WatchResponse::kDeviceRemoved:
      return print("device", change.device_removed(), "removed");
    case WatchResponse::kVolumeRemoved:
      return print("volume", VolumeText(change.volume_removed()), "removed");
    case WatchResponse::kStatus:
      return print("target", change.status().target().socket(),
                   change.status().target().connected() ? Cell("connected", Colour::kGreen)
                                                        : Cell("not connected", Colour::kRed));
    case WatchResponse::kSynced:
      return print("all", "told", "as it is now");
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
  while (session.streams.out && reader->Read(&change)) {
    if (session.options.json) {
      absl::Status printed = session.PrintJson(change, /*one_line=*/true);
      if (!printed.ok()) return printed;
    } else {
      PrintLine(session, change);
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
      "Prints changes of devices, volumes and the target as they happen, until interrupted");
  auto arguments = std::make_shared<WatchArguments>();
  command->add_flag("--initial-state", arguments->initial_state,
                    "Begins with all devices and volumes as they are");
  command->add_option("--device", arguments->handle, "Only this device and its volumes")
      ->type_name("HANDLE");
  command
      ->add_option("--for", arguments->duration, "Ends after this time; --timeout does not end it")
      ->type_name("TIME");
  command->callback([&session, arguments] {
    session.action = [&session, arguments] { return Watch(session, *arguments); };
  });
  command->footer(R"(With --json each line is one JSON object.

Examples:
  smactl watch --initial-state
  smactl watch --device nvmf-tcp:nqn.2024-01.com.example:disk1 --for 10m --json)");
}

}  // namespace sma::cli
