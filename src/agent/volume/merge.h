// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "absl/status/status.h"
#include "sma.pb.h"

namespace sma::volume {

/// Adds the addresses of `asked` that are missing to `known`, the connection of an attached volume.
/// A volume that was attached as a local bdev of the target gets the connection of `asked`. Returns
/// INVALID_ARGUMENT, and leaves `known` unchanged, if the two are of different kinds or lead to
/// different subsystems or logical units.
absl::Status MergeConnection(const VolumeParameters& asked, VolumeParameters& known);

}  // namespace sma::volume
