#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/spdk/nvmf.h"
#include "nvmf_tcp.pb.h"

namespace sma::nvmf_tcp {

/// Checks parameters as a client gave them, and writes them in one form for each meaning: addresses
/// as numbers, hosts sorted and each once. INVALID_ARGUMENT.
absl::StatusOr<DeviceParameters> Canonical(const DeviceParameters& params);

/// The handle of the device whose subsystem is `nqn`.
std::string HandleOf(std::string_view nqn);

/// Whether `handle` is one that HandleOf gives for a valid subsystem.
bool IsHandle(std::string_view handle);

/// Where the device listens, of parameters in canonical form.
spdk::TransportAddress AddressOf(const DeviceParameters& params);

}  // namespace sma::nvmf_tcp
