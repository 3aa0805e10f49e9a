// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>

#include "agent/config/parse.h"

namespace sma::apps {

/// The command-line options of sma.
struct AgentOptions {
  std::string config_path;  // empty: no configuration file
  config::Flags flags;
  bool check_config = false;
};

/// Parses the command line. Returns the options, or the exit status if the program must exit now:
/// after --help, or after an error, which has been printed.
struct ParsedAgentOptions {
  std::optional<AgentOptions> options;
  int exit_status = 0;
};
ParsedAgentOptions ParseAgentOptions(int argc, const char* const* argv);

}  // namespace sma::apps
