#pragma once

#include "cli/session.h"

namespace sma::cli {

/// Runs smactl with the arguments of main(). The exit status: 0 for success, else the gRPC status
/// code of the error, which is printed to `streams.err`; a command line that makes no sense is
/// INVALID_ARGUMENT (3).
int Run(int argc, const char* const* argv, Streams streams);

}  // namespace sma::cli
