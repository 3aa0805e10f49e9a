#include "sma/run.h"

#include <malloc.h>
#include <signal.h>

#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "agent/config/parse.h"
#include "base/descriptor_limit.h"
#include "base/log.h"
#include "sma/managers.h"
#include "sma/options.h"
#include "sma/program.h"

namespace sma::apps {
namespace {

// Many threads that allocate little each: more arenas would only spread memory.
constexpr int kMallocArenas = 2;

}  // namespace

int RunAgent(int argc, const char* const* argv, Decorators decorators) {
  ParsedAgentOptions parsed = ParseAgentOptions(argc, argv);
  if (!parsed.options) return parsed.exit_status;
  auto config = config::Load(parsed.options->config_path, parsed.options->flags);
  absl::Status status = config.ok() ? CheckSupported(*config) : config.status();
  if (!status.ok()) {
    std::cerr << status.message() << "\n";
    return EXIT_FAILURE;
  }
  if (parsed.options->check_config) {
    std::cout << "OK\n";
    return EXIT_SUCCESS;
  }

  base::RaiseDescriptorLimit();
  mallopt(M_ARENA_MAX, kMallocArenas);
  // gRPC's locks: it would look for cycles at each of them.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  const char* level = std::getenv("SMA_LOGLEVEL");
  base::InitLog("sma", level != nullptr ? level : "info");
  // Before the first thread: the main thread alone takes them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error to answer, not an end
  return AgentProgram(*std::move(config), std::move(decorators)).Run();
}

}  // namespace sma::apps
