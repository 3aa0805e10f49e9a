// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "absl/status/status.h"
#include "base/context.h"
#include "sma.pb.h"

namespace sma::volume {

/// Checks the connection parameters of a volume and converts them to canonical form: addresses are
/// converted by CheckAddress, and duplicates are removed. Does not resolve host names. Returns
/// INVALID_ARGUMENT if a parameter is invalid.
absl::Status CheckConnection(VolumeParameters& params);

/// Replaces host names in NVMe-oF addresses with IP addresses. Blocks until `context` ends at the
/// latest. Returns the errors of ResolveHost.
absl::Status ResolveHosts(const base::Context& context, VolumeParameters& params);

}  // namespace sma::volume
