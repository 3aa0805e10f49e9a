// SPDX-License-Identifier: Apache-2.0

#include "sma/options.h"

#include <CLI/CLI.hpp>

namespace sma::apps {
namespace {

constexpr int kUsageError = 2;
constexpr const char* kFooter =
    "Environment: SMA_LOGLEVEL (trace, debug, info, warning, error, critical, off), SMA_PLUGINS\n"
    "(names separated by colons).\n"
    "\n"
    "Examples:\n"
    "  sma -c /etc/sma.yaml                 run with the target on the configured socket\n"
    "  sma -c sma.yaml --embedded           run with the embedded target\n"
    "  sma -c sma.yaml --check-config       check the configuration only";

}  // namespace

ParsedAgentOptions ParseAgentOptions(int argc, const char* const* argv) {
  AgentOptions options;
  CLI::App app("Storage Management Agent: exports volumes to hosts as devices.", "sma");
  app.footer(kFooter);
  app.set_version_flag("--version", "sma " SMA_VERSION);
  app.add_option("-c,--config", options.config_path, "Configuration file (YAML)");
  app.add_option("-a,--address", options.flags.address, "Address to listen on, or unix:PATH");
  app.add_option("-p,--port", options.flags.port, "TCP port to listen on; 0: any free port");
  app.add_option("-s,--socket", options.flags.socket,
                 "Unix socket of the target's JSON-RPC server");
  app.add_option("--state-dir", options.flags.state_dir, "Folder of the agent's record");
  app.add_flag("--embedded", options.flags.embedded, "Start and supervise sma-target");
  app.add_flag("--embedded-stop", options.flags.embedded_stop,
               "Stop sma-target when the agent stops");
  app.add_flag("--check-config", options.check_config, "Check the configuration and exit");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    int status = app.exit(error);
    return {std::nullopt, status == 0 ? 0 : kUsageError};
  }
  return {std::move(options), 0};
}

}  // namespace sma::apps
