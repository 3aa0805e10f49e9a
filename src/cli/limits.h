// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "cli/output.h"
#include "sma.pb.h"

namespace sma::cli {

/// Adds a line for each limit that is set, for example "rw-iops 5k".
void AddLimits(const sma::QosLimit& limits, Properties& properties);

}  // namespace sma::cli
