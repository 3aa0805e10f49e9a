#include <malloc.h>
#include <signal.h>

#include <cstdlib>
#include <iostream>

#include "agent/config/parse.h"
#include "base/log.h"
#include "sma/managers.h"
#include "sma/options.h"
#include "sma/program.h"

namespace {

// Many threads that allocate little each: more arenas would only spread memory.
constexpr int kMallocArenas = 2;

}  // namespace

int main(int argc, char** argv) {
  sma::apps::ParsedAgentOptions parsed = sma::apps::ParseAgentOptions(argc, argv);
  if (!parsed.options) return parsed.exit_status;
  auto config = sma::config::Load(parsed.options->config_path, parsed.options->flags);
  absl::Status status = config.ok() ? sma::apps::CheckSupported(*config) : config.status();
  if (!status.ok()) {
    std::cerr << status.message() << "\n";
    return EXIT_FAILURE;
  }
  if (parsed.options->check_config) {
    std::cout << "OK\n";
    return EXIT_SUCCESS;
  }

  mallopt(M_ARENA_MAX, kMallocArenas);
  const char* level = std::getenv("SMA_LOGLEVEL");
  sma::base::InitLog("sma", level != nullptr ? level : "info");
  // Before the first thread: the main thread alone takes them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return sma::apps::AgentProgram(*std::move(config)).Run();
}
