// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>

#include "cli/admin_text.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "sma_admin.pb.h"

namespace sma::cli {
namespace {

Cell YesNo(bool good, const char* yes, const char* no) {
  return good ? Cell(yes, Colour::kGreen) : Cell(no, Colour::kRed);
}

std::string RestoreText(const admin::v1::Status& status) {
  const admin::v1::Status::Restore& restore = status.restore();
  if (!status.target().connected()) return "waits for the target";
  if (!restore.active() && restore.failed() == 0) return "complete";
  return fmt::format("{} of {} devices{}", restore.done(), restore.total(),
                     restore.failed() == 0 ? "" : fmt::format(", {} failed", restore.failed()));
}

// A target that does not answer is the reason why the agent does not serve, and its last error.
Cell TargetText(const admin::v1::Status& status) {
  const admin::v1::Status::Target& target = status.target();
  const bool is_silent = !status.serving() && target.has_last_error() &&
                         target.last_error().message() == status.not_serving_reason();
  return YesNo(target.connected() && !is_silent, "connected",
               target.connected() ? "connected, but does not answer" : "not connected");
}

void AddTargetStatus(const admin::v1::Status& status, Properties& properties) {
  const admin::v1::Status::Target& target = status.target();
  properties.Add("target", TargetText(status));
  properties.Add("target since", TimeText(target.since()));
  properties.Add("target version", target.version().empty() ? "-" : target.version());
  properties.Add("target socket", target.socket() + (target.embedded() ? " (embedded)" : ""));
  properties.Add("reconnects", std::to_string(target.reconnects()));
  if (target.has_last_error()) properties.Add("target error", ErrorText(target.last_error()));
}

void AddRecordStatus(const admin::v1::Status::Record& record, Properties& properties) {
  properties.Add("record", YesNo(record.writable(), "writable", "not writable"));
  if (record.writable()) return;
  properties.Add("record since", TimeText(record.since()));
  properties.Add("record error", ErrorText(record.error()));
}

absl::Status PrintStatus(Session& session) {
  admin::v1::Status status;
  absl::Status called = session.CallAdmin("GetStatus", admin::v1::GetStatusRequest(), &status);
  if (!called.ok()) return called;
  if (session.options.json) return session.PrintJson(status);
  Properties properties;
  properties.Add("agent", YesNo(status.serving(), "serving", "not serving"));
  properties.Add("version", status.version());
  properties.Add("started", TimeText(status.started()));
  if (!status.not_serving_reason().empty()) {
    properties.Add("not serving", {status.not_serving_reason(), Colour::kRed});
  }
  for (const admin::v1::Status::DeviceType& type : status.failed_device_types()) {
    properties.Add("device type " + type.name(), {type.reason(), Colour::kRed});
  }
  AddTargetStatus(status, properties);
  if (status.has_record()) AddRecordStatus(status.record(), properties);
  properties.Add("restore", RestoreText(status));
  properties.Add("devices", std::to_string(status.device_count()));
  properties.Add("volumes", std::to_string(status.volume_count()));
  properties.Add("not ready", {std::to_string(status.degraded_count()),
                               status.degraded_count() == 0 ? Colour::kNone : Colour::kRed});
  properties.Print(session.streams.out, session.streams.use_colour);
  return absl::OkStatus();
}

}  // namespace

void AddStatusCommand(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "status", "Show the status of the agent and its target, and the progress of a restore");
  command->callback([&session] { session.action = [&session] { return PrintStatus(session); }; });
  command->footer(R"(Examples:
  smactl status
  smactl --json status)");
}

}  // namespace sma::cli
