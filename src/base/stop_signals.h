// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <signal.h>

namespace sma::base {

/// Returns the signals that stop a program: SIGINT and SIGTERM.
sigset_t StopSignals();

/// Blocks StopSignals() on this thread and those that it starts, so that the program can wait for
/// them, and ignores SIGPIPE. Call it before the first thread starts.
void BlockStopSignals();

}  // namespace sma::base
