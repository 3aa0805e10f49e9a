#pragma once

#include "absl/status/status.h"
#include "sma.pb.h"

namespace sma::volume {

/// Adds to `known`, the connection of an attached volume, the addresses of `asked` that it does not
/// have. A volume attached as a bdev of the target's own gets the connection of `asked`.
/// INVALID_ARGUMENT: they are of different kinds, or of another subsystem or logical unit; then
/// `known` is as it was.
absl::Status MergeConnection(const VolumeParameters& asked, VolumeParameters& known);

}  // namespace sma::volume
