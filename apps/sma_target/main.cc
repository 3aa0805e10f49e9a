#include <signal.h>

#include "base/descriptor_limit.h"
#include "base/log.h"
#include "sma_target/options.h"
#include "sma_target/program.h"

int main(int argc, char** argv) {
  sma::apps::ParsedOptions parsed = sma::apps::ParseTargetOptions(argc, argv);
  if (!parsed.options) return parsed.exit_status;
  sma::base::InitLog("sma-target", parsed.options->log_level);
  // Each host's queue is a descriptor, and the usual soft limit is 1,024.
  sma::base::RaiseDescriptorLimit();
  // Before the first thread: they are read from a descriptor.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return sma::apps::TargetProgram(*std::move(parsed.options)).Run();
}
