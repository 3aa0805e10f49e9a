// SPDX-License-Identifier: Apache-2.0

#include "base/descriptor_limit.h"
#include "base/log.h"
#include "base/stop_signals.h"
#include "sma_target/options.h"
#include "sma_target/program.h"

int main(int argc, char** argv) {
  sma::apps::ParsedOptions parsed = sma::apps::ParseTargetOptions(argc, argv);
  if (!parsed.options) return parsed.exit_status;
  sma::base::InitLog("sma-target", parsed.options->log_level);
  // Raises the limit of descriptors: each queue of a host needs one, and the usual soft limit is
  // 1,024.
  sma::base::RaiseDescriptorLimit();
  sma::base::BlockStopSignals();  // they are read from a descriptor
  return sma::apps::TargetProgram(*std::move(parsed.options)).Run();
}
