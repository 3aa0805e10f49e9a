// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/spdk/nvmf.h"
#include "base/uuid.h"

namespace sma::volume {

// Names of the connections that the agent creates on the target. A name ends with the id of the
// volume for which the connection was first created. Therefore two agents that share a target never
// use the same name, and a connection whose name is in the record belongs to this agent. Records of
// version 1.0 have names without the id.
//
// The target derives other names from them: a discovery service S attaches controllers S0, S1, …,
// and a controller C has bdevs Cn1, Cn2, … (SPDK, bdev_nvme.c).

/// Returns the name of a discovery service at `address`.
std::string ServiceName(const spdk::TransportAddress& address, const base::Uuid& volume);
/// Returns the prefix of the names of all services at `address`.
std::string ServiceKey(const spdk::TransportAddress& address);

/// Returns the name of the connection to a subsystem that is attached without a discovery service.
std::string ControllerName(std::string_view subnqn, const base::Uuid& volume);
std::string ControllerKey(std::string_view subnqn);

/// Returns the key (ServiceKey or ControllerKey) with which a name begins.
std::string_view KeyOf(std::string_view name);

/// Returns the controller to which a bdev of this name belongs, or nullopt if the name has a
/// different form.
std::optional<std::string> ControllerOfBdev(std::string_view bdev_name);
/// Returns this agent's service that may have attached a controller of this name.
std::optional<std::string> ServiceOfController(std::string_view controller_name);
/// Returns true if a discovery service of this name, whoever started it, may have attached a
/// controller of this name.
bool IsControllerOf(std::string_view controller_name, std::string_view service);
/// Returns true if a name has one of the forms above.
bool HasAgentsForm(std::string_view name);

}  // namespace sma::volume
