// SPDX-License-Identifier: Apache-2.0

#include "sma/run.h"

#include <malloc.h>
#include <signal.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "agent/config/parse.h"
#include "base/descriptor_limit.h"
#include "base/log.h"
#include "base/stop_signals.h"
#include "devices/built_in/built_in.h"
#include "sma/check.h"
#include "sma/managers.h"
#include "sma/options.h"
#include "sma/program.h"

namespace sma::apps {
namespace {

// The number of malloc arenas is limited, because the agent has many threads that allocate little,
// so that more arenas would only waste memory.
constexpr int kMallocArenas = 2;

// Prints OK or the mistakes, and ends the program: a Python interpreter that was started to load
// plugins is never finalized.
[[noreturn]] void CheckConfig(const config::Config& config) {
  base::InitLog("sma", "critical");  // the mistakes are printed below
  const std::vector<std::string> mistakes = FindConfigMistakes(config);
  for (const std::string& mistake : mistakes) std::cerr << mistake << "\n";
  if (mistakes.empty()) std::cout << "OK\n";
  std::cout.flush();
  std::_Exit(mistakes.empty() ? EXIT_SUCCESS : EXIT_FAILURE);
}

}  // namespace

int RunAgent(int argc, const char* const* argv, Decorators decorators) {
  ParsedAgentOptions parsed = ParseAgentOptions(argc, argv);
  if (!parsed.options) return parsed.exit_status;
  auto config = config::Load(parsed.options->config_path, parsed.options->flags,
                             devices::ConfigurationTypes());
  absl::Status status = config.ok() ? CheckSupported(*config) : config.status();
  if (!status.ok()) {
    std::cerr << status.message() << "\n";
    return EXIT_FAILURE;
  }
  if (parsed.options->check_config) CheckConfig(*config);

  base::RaiseDescriptorLimit();
  mallopt(M_ARENA_MAX, kMallocArenas);
  // Disables the deadlock detection of Abseil's mutexes, which would search for cycles at each of
  // gRPC's locks.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  const char* level = std::getenv("SMA_LOGLEVEL");
  base::InitLog("sma", level != nullptr ? level : "info");
  base::BlockStopSignals();  // only the main thread receives them
  signal(SIGXFSZ, SIG_IGN);  // exceeding a file size limit fails a call, not the program
  return AgentProgram(*std::move(config), std::move(decorators)).Run();
}

}  // namespace sma::apps
