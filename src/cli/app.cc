// SPDX-License-Identifier: Apache-2.0

#include "cli/app.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/version.h"
#include "cli/commands.h"

namespace sma::cli {
namespace {

constexpr char kFooter[] =
    R"(The exit status is 0 for success, otherwise the gRPC status code of the error.

Examples:
  smactl device create nvmf-tcp --nqn nqn.2024-01.com.example:disk1 --traddr 192.0.2.1 --allow-any-host
  smactl volume attach nvmf-tcp:nqn.2024-01.com.example:disk1 8f0c3a52-12c8-4f2e-8c43-5f0d5e7d9a01
  smactl device list
  smactl --address 192.0.2.7:8080 --ca ca.pem --cert client.pem --key client.key health
  smactl COMMAND --help)";

void AddGlobalOptions(CLI::App& app, GlobalOptions& options) {
  app.add_option("--address,-a", options.address,
                 "Address of the agent: HOST:PORT, [IPV6]:PORT or unix:PATH")
      ->envname("SMA_ADDRESS")
      ->capture_default_str()
      ->type_name("ADDRESS");
  app.add_option("--timeout", options.timeout,
                 "How long to wait for the agent's response: 10s, 500ms, 2m")
      ->capture_default_str()
      ->type_name("TIME");
  app.add_flag("--json", options.json, "Print results and errors as JSON");
  app.add_flag("--tls", options.tls,
               "Use TLS, with the system's certificate authorities unless --ca is given");
  app.add_option("--ca", options.ca_file,
                 "TLS: certificate authorities that verify the agent's certificate (PEM)")
      ->type_name("FILE");
  CLI::Option* cert = app.add_option("--cert", options.cert_file, "TLS: client certificate (PEM)")
                          ->type_name("FILE");
  CLI::Option* key =
      app.add_option("--key", options.key_file, "TLS: private key of the client certificate (PEM)")
          ->type_name("FILE");
  cert->needs(key);
  key->needs(cert);
}

// Accepts the global options after a command too.
void LetFallThrough(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    command->fallthrough();
    LetFallThrough(*command);
  }
}

// Returns the command as far as it was recognized, for example "smactl device create".
std::string CommandName(const CLI::App& app) {
  std::string name = app.get_name();
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    name += " " + at->get_name();
  }
  return name;
}

int Fail(const absl::Status& status, bool as_json, std::ostream& err) {
  const int code = static_cast<int>(status.code());
  const std::string name = absl::StatusCodeToString(status.code());
  const std::string message(status.message());
  if (as_json) {
    const nlohmann::json error = {{"code", code}, {"status", name}, {"message", message}};
    err << nlohmann::json{{"error", error}}.dump(-1, ' ', false,
                                                 nlohmann::json::error_handler_t::replace)
        << '\n';
  } else {
    err << fmt::format("smactl: {}: {}\n", name, message);
  }
  return code;
}

}  // namespace

int Run(int argc, const char* const* argv, Streams streams) {
  Session session(streams);
  CLI::App app("Command line client of the Storage Management Agent", "smactl");
  app.footer(kFooter);
  app.set_version_flag("--version", fmt::format("smactl {}", base::GetVersion().text));
  app.require_subcommand(1);
  AddGlobalOptions(app, session.options);
  AddDeviceCommands(app, session);
  AddVolumeCommands(app, session);
  AddQosCommands(app, session);
  AddCallCommand(app, session);
  AddHealthCommand(app, session);
  AddStatusCommand(app, session);
  AddWatchCommand(app, session);
  AddPluginCommands(app, session);
  AddCompletionCommand(app, session);
  LetFallThrough(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help, streams.out, streams.err);
  } catch (const CLI::ParseError& error) {
    const int code =
        Fail(absl::InvalidArgumentError(error.what()), session.options.json, streams.err);
    if (!session.options.json) {
      streams.err << fmt::format("See '{} --help'.\n", CommandName(app));
    }
    return code;
  }
  absl::Status status = session.action();
  streams.out.flush();
  if (status.ok() && !streams.out) status = absl::InternalError("cannot write the output");
  return status.ok() ? 0 : Fail(status, session.options.json, streams.err);
}

}  // namespace sma::cli
