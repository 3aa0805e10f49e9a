// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "base/context.h"
#include "devices/nvmf_common/known_subsystems.h"
#include "devices/nvmf_common/subsystem_spec.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::nvmf_common {

/// Compares a device with the target and restores it, see DeviceManager::Restore.
/// `request.listing`, if not null, is a SubsystemListing. Notes a subsystem that was restored in
/// `known`. Blocks while it calls the target.
RestoreResult RestoreSubsystem(jsonrpc::Caller& target, const base::Context& context,
                               KnownSubsystems& known, const SubsystemSpec& spec,
                               const RestoreRequest& request);

}  // namespace sma::nvmf_common
