#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/spdk/nvmf.h"
#include "base/uuid.h"

namespace sma::volume {

// Names of what the agent has the target connect to. A name ends with the id of the volume that it
// was made for first: two agents on one target never give the same name, so that what has a name of
// the record is this agent's. The record of version 1.0 has names without the id.
//
// The target names what it makes after them: a discovery service S attaches controllers S0, S1, …,
// and a controller C has bdevs Cn1, Cn2, … (SPDK, bdev_nvme.c).

/// Of the discovery service at `address`.
std::string ServiceName(const spdk::TransportAddress& address, const base::Uuid& volume);
/// What the names of all services at `address` have in common: they begin with this.
std::string ServiceKey(const spdk::TransportAddress& address);

/// Of the connection to a subsystem without a discovery service.
std::string ControllerName(std::string_view subnqn, const base::Uuid& volume);
std::string ControllerKey(std::string_view subnqn);

/// The key that a name begins with, be it of a service or a controller.
std::string_view KeyOf(std::string_view name);

/// The controller that a bdev of this name belongs to; nullopt if the name does not have the form.
std::optional<std::string> ControllerOfBdev(std::string_view bdev_name);
/// The service of this agent's that may have attached a controller of this name.
std::optional<std::string> ServiceOfController(std::string_view controller_name);
/// Whether the name has the form of the names above.
bool HasAgentsForm(std::string_view name);

}  // namespace sma::volume
