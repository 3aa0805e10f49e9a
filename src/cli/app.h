// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "cli/session.h"

namespace sma::cli {

/// Runs smactl with the arguments of main(). Returns the exit status: 0 for success, otherwise the
/// gRPC status code of the error, which is printed to `streams.err`. The code for an invalid
/// command line is INVALID_ARGUMENT (3).
int Run(int argc, const char* const* argv, Streams streams);

}  // namespace sma::cli
