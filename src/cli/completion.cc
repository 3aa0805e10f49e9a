// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "cli/commands.h"

namespace sma::cli {
namespace {

// The words that can be completed. They are collected from the commands.
struct Words {
  std::vector<std::pair<std::string, std::string>>
      by_path;  // "/device/create": commands and options
  std::vector<std::string> paths;
  std::set<std::string> options_with_value;
};

void Collect(const CLI::App& app, const std::string& path,
             const std::vector<std::string>& outer_options, Words& words) {
  std::vector<std::string> candidates;
  std::vector<std::string> options = outer_options;
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* command : commands) candidates.push_back(command->get_name());
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      if (name != "version") options.push_back("--" + name);
      if (option->get_expected_max() > 0) words.options_with_value.insert("--" + name);
    }
    for (const std::string& name : option->get_snames()) {
      if (option->get_expected_max() > 0) words.options_with_value.insert("-" + name);
    }
  }
  const std::set<std::string> unique(options.begin(), options.end());
  candidates.insert(candidates.end(), unique.begin(), unique.end());
  words.by_path.emplace_back(path, absl::StrJoin(candidates, " "));
  for (const CLI::App* command : commands) {
    const std::string below = path + "/" + command->get_name();
    words.paths.push_back(below);
    Collect(*command, below, options, words);
  }
}

// Returns the part of the script that both shells share. `words_before` expands to the words before
// the one being typed.
std::string Body(const CLI::App& app, std::string_view words_before) {
  Words words;
  Collect(app, "", {}, words);
  std::string body = fmt::format(
      R"(  local at= word skip= candidates=
  for word in {}; do
    if [[ -n $skip ]]; then skip=; continue; fi
    case $word in
      {}) skip=1 ;;
      -*) ;;
      *) case $at/$word in {}) at+=/$word ;; esac ;;
    esac
  done
  case $at in
)",
      words_before, absl::StrJoin(words.options_with_value, "|"), absl::StrJoin(words.paths, "|"));
  for (const auto& [path, candidates] : words.by_path) {
    body += fmt::format("    '{}') candidates='{}' ;;\n", path, candidates);
  }
  return body + "  esac\n";
}

std::string BashScript(const CLI::App& app) {
  return "# bash completion of smactl; to enable it: source <(smactl completion bash)\n_smactl() "
         "{\n" +
         Body(app, R"("${COMP_WORDS[@]:1:COMP_CWORD-1}")") +
         R"(  COMPREPLY=()
  if [[ -z $skip ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "${COMP_WORDS[COMP_CWORD]}")
  fi
}
complete -o default -F _smactl smactl
)";
}

std::string ZshScript(const CLI::App& app) {
  return "#compdef smactl\n# zsh completion of smactl; to enable it: source <(smactl completion "
         "zsh)\n_smactl() {\n" +
         Body(app, R"("${(@)words[2,CURRENT-1]}")") +
         R"(  if [[ -n $skip ]]; then _files; else compadd -- ${=candidates}; fi
}
if [[ $funcstack[1] == _smactl ]]; then _smactl; else compdef _smactl smactl; fi
)";
}

}  // namespace

void AddCompletionCommand(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("completion", "Print a completion script for a shell");
  command->require_subcommand(1);
  auto add = [&](const char* shell, std::string (*script)(const CLI::App&)) {
    CLI::App* sub = command->add_subcommand(shell, fmt::format("For {}", shell));
    sub->callback([&app, &session, script] {
      session.action = [&app, &session, script] {
        session.streams.out << script(app);
        return absl::OkStatus();
      };
    });
    sub->footer(fmt::format("Examples:\n  source <(smactl completion {})", shell));
  };
  add("bash", BashScript);
  add("zsh", ZshScript);
}

}  // namespace sma::cli
