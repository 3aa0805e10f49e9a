// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "sma/program.h"

namespace sma::apps {

/// Runs the agent with the arguments of main(); returns the program's exit status.
int RunAgent(int argc, const char* const* argv, Decorators decorators = {});

}  // namespace sma::apps
