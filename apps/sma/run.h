#pragma once

#include "sma/program.h"

namespace sma::apps {

/// The agent from its command line to its end; the program's exit status.
int RunAgent(int argc, const char* const* argv, Decorators decorators = {});

}  // namespace sma::apps
