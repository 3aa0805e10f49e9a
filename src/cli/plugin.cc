// SPDX-License-Identifier: Apache-2.0

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "cli/admin_text.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "sma_admin.pb.h"

namespace sma::cli {
namespace {

using admin::v1::Plugin;

// Converts an enum value to a word: "KIND_BUILT_IN" with the prefix "KIND_" becomes "built-in".
std::string EnumWord(const std::string& name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return "-";
  return absl::StrReplaceAll(absl::AsciiStrToLower(name.substr(prefix.size())), {{"_", "-"}});
}

Cell PluginState(const Plugin& plugin) {
  if (!plugin.error().empty()) return {"failed", Colour::kRed};
  return plugin.enabled() ? Cell("enabled", Colour::kGreen) : Cell("disabled");
}

absl::Status ListPlugins(Session& session) {
  admin::v1::ListPluginsResponse response;
  absl::Status status =
      session.CallAdmin("ListPlugins", admin::v1::ListPluginsRequest(), &response);
  if (!status.ok()) return status;
  if (session.options.json) return session.PrintJson(response);
  Table table({"NAME", "ROLE", "KIND", "PROTOCOL", "STATE", "SOURCE"});
  for (const Plugin& plugin : response.plugins()) {
    table.Add({plugin.name(), EnumWord(Plugin::Role_Name(plugin.role()), "ROLE_"),
               EnumWord(Plugin::Kind_Name(plugin.kind()), "KIND_"),
               plugin.protocol().empty() ? "-" : plugin.protocol(), PluginState(plugin),
               plugin.source().empty() ? "-" : plugin.source()});
  }
  table.Print(session.streams.out, session.streams.use_colour);
  for (const Plugin& plugin : response.plugins()) {
    if (plugin.error().empty()) continue;
    session.streams.out << '\n' << plugin.name() << ": " << plugin.error() << '\n';
  }
  return absl::OkStatus();
}

}  // namespace

void AddPluginCommands(CLI::App& app, Session& session) {
  CLI::App* plugin =
      app.add_subcommand("plugin", "List the device types and crypto engines of the agent");
  plugin->require_subcommand(1);
  CLI::App* list = plugin->add_subcommand(
      "list",
      "List device types and crypto engines, with the errors of those that could not be loaded");
  list->callback([&session] { session.action = [&session] { return ListPlugins(session); }; });
  list->footer(R"(Examples:
  smactl plugin list)");
}

}  // namespace sma::cli
