// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/spdk/nvmf.h"
#include "nvmf_tcp.pb.h"

namespace sma::nvmf_tcp {

/// Checks parameters from a client and returns their canonical form: numeric addresses, and hosts
/// sorted without duplicates. Returns INVALID_ARGUMENT if a parameter is invalid.
absl::StatusOr<DeviceParameters> Canonical(const DeviceParameters& params);

/// Returns the handle of the device with the subsystem `nqn`.
std::string HandleOf(std::string_view nqn);

/// NqnOf() returns the NQN for a handle of this type; IsHandle() returns true for the handles that
/// HandleOf() returns for valid subsystems.
std::string NqnOf(std::string_view handle);
bool IsHandle(std::string_view handle);

/// Returns the address of the device's listener. `params` must be in canonical form.
spdk::TransportAddress AddressOf(const DeviceParameters& params);

}  // namespace sma::nvmf_tcp
