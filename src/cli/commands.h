// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <CLI/CLI.hpp>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "cli/session.h"

namespace sma::cli {

// Each function adds the commands of one resource to `app`. The command that is given on the
// command line sets `session.action`.
void AddDeviceCommands(CLI::App& app, Session& session);
void AddVolumeCommands(CLI::App& app, Session& session);
void AddQosCommands(CLI::App& app, Session& session);
void AddCallCommand(CLI::App& app, Session& session);
void AddHealthCommand(CLI::App& app, Session& session);
void AddStatusCommand(CLI::App& app, Session& session);
void AddWatchCommand(CLI::App& app, Session& session);
void AddPluginCommands(CLI::App& app, Session& session);
/// Must be called last, because it generates the completion of the commands that `app` has at that
/// time.
void AddCompletionCommand(CLI::App& app, Session& session);

// Subcommands of `device` and `volume`.
void AddDeviceListCommands(CLI::App& device, Session& session);
void AddDeviceAdoptCommand(CLI::App& device, Session& session);
void AddVolumeListCommands(CLI::App& volume, Session& session);

/// Makes `run` the session's action if `command` is given on the command line. Keeps `arguments`
/// alive, because the options of `command` refer to its members.
template <typename Arguments>
void SetAction(CLI::App& command, Session& session, std::shared_ptr<Arguments> arguments,
               absl::Status (*run)(Session&, const Arguments&)) {
  command.callback([&session, arguments, run] {
    session.action = [&session, arguments, run] { return run(session, *arguments); };
  });
}

/// Adds the required positional argument HANDLE; its value is stored in `handle`.
void AddHandle(CLI::App& command, std::string& handle);

}  // namespace sma::cli
