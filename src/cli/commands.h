#pragma once

#include <CLI/CLI.hpp>

#include "cli/session.h"

namespace sma::cli {

// Each adds the commands of one resource to `app`. The command that is given sets `session.action`.
void AddDeviceCommands(CLI::App& app, Session& session);
void AddVolumeCommands(CLI::App& app, Session& session);
void AddQosCommands(CLI::App& app, Session& session);
void AddCallCommand(CLI::App& app, Session& session);
void AddHealthCommand(CLI::App& app, Session& session);
void AddStatusCommand(CLI::App& app, Session& session);
void AddWatchCommand(CLI::App& app, Session& session);
void AddPluginCommands(CLI::App& app, Session& session);
/// Last, because it completes what is there. `app` must be the whole program.
void AddCompletionCommand(CLI::App& app, Session& session);

// Parts of the commands above: `device` and `volume` are theirs.
void AddDeviceListCommands(CLI::App& device, Session& session);
void AddDeviceAdoptCommand(CLI::App& device, Session& session);
void AddVolumeListCommands(CLI::App& volume, Session& session);

}  // namespace sma::cli
