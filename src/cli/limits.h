#pragma once

#include "cli/output.h"
#include "sma.pb.h"

namespace sma::cli {

/// A line for each limit that is set: "rw-iops  5k".
void AddLimits(const sma::QosLimit& limits, Properties& properties);

}  // namespace sma::cli
