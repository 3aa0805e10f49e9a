#pragma once

#include "absl/status/status.h"
#include "base/context.h"
#include "sma.pb.h"

namespace sma::volume {

/// Checks how a volume is to be connected and brings it to one form: addresses in one spelling and
/// each once, ports there. No address is looked up. INVALID_ARGUMENT.
absl::Status CheckConnection(VolumeParameters& params);

/// Puts IP addresses in the places of host names of NVMe-oF addresses. Blocks, no longer than
/// `context` allows. Errors as ResolveHost.
absl::Status ResolveHosts(const base::Context& context, VolumeParameters& params);

}  // namespace sma::volume
