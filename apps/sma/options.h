#pragma once

#include <optional>
#include <string>

#include "agent/config/parse.h"

namespace sma::apps {

/// What the command line of sma says.
struct AgentOptions {
  std::string config_path;  // empty: no file
  config::Flags flags;
  bool check_config = false;
};

/// The options, or the program's exit status when it is to end now (after --help, or a mistake,
/// which is printed).
struct ParsedAgentOptions {
  std::optional<AgentOptions> options;
  int exit_status = 0;
};
ParsedAgentOptions ParseAgentOptions(int argc, const char* const* argv);

}  // namespace sma::apps
