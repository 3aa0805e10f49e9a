// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "agent/core/core.h"
#include "agent/core/operation.h"
#include "sma/device_manager.h"
#include "sma/outcome.h"

namespace sma::core {

// Steps that several use cases share. The caller holds the locks of device and volume.

/// Exports a volume that has a bdev or for which its plan creates one.
using Export = std::function<Outcome(const DeviceVolume& volume)>;

/// Connects the volume of the new row `row` and calls `export_volume`: in one batch if `manager`
/// takes plans and a plan exists. Adds its rollback to `operation` and completes `row`. If the
/// outcome is "not done", nothing of the volume is left on the target.
Outcome ConnectAndExport(Core& core, const base::Context& context, Operation& operation,
                         DeviceManager& manager, const VolumeRequest& request, record::Volume& row,
                         const Export& export_volume);

/// Sets the recorded limits of a volume that was just attached. Returns OK if there are none.
absl::Status ApplyLimits(Core& core, const base::Context& context, DeviceManager& manager,
                         const DeviceSpec& device, const DeviceVolume& volume);

/// Handles a repeated request for an attached volume: restores its connection, and writes changes
/// of its row. Returns INVALID_ARGUMENT if the request has other parameters than those in use.
absl::Status RepeatConnect(Core& core, const base::Context& context, const VolumeRequest& request,
                           record::Volume& row);

/// Records that a repeated request for an attached volume succeeded: its attachment, and that it no
/// longer has an error, so that it is reported as ready at once. Does nothing if the row already
/// says so.
absl::Status FinishRepeat(Core& core, const record::Volume& row, const std::string& attachment);

/// Returns true if one query of the device shows that an encrypted volume is exported as `request`
/// specifies. False means that more queries are needed.
bool IsIntact(Core& core, const base::Context& context, DeviceManager& manager,
              const DeviceSpec& device, const VolumeRequest& request, const record::Volume& row);

/// Returns why a device could not export an attached volume: `status`, or that the volume is
/// missing if the target has no bdev for it.
absl::Status WhyNotExported(Core& core, const base::Context& context, const record::Volume& row,
                            absl::Status status);

/// Attaches a volume that is not in the record to a device that is ready.
Outcome AttachNew(Core& core, const base::Context& context, DeviceManager& manager,
                  const DeviceSpec& device, const VolumeRequest& request);

/// Calls `remove`, with the time that it may take, to make a device release volumes. The outcome is
/// "under way" if a volume is remote and the removal takes longer: the device waits for I/O in
/// progress to the storage node, which ends when the node is reachable again or its connection is
/// released, and accepts no new I/O meanwhile. The rows are then kept, to be settled later. In the
/// meantime, connections that are down and on which no other volume depends are released, which
/// ends that I/O.
Outcome RemoveFromDevice(Core& core, const base::Context& context,
                         const std::vector<record::Volume>& rows,
                         const std::function<Outcome(const base::Context& limited)>& remove);

/// Finishes a removal after the device has released the volumes: removes limits from the target and
/// releases the connections. Tries all volumes and returns the first error.
absl::Status ReleaseAll(Core& core, const base::Context& context, const DeviceManager& manager,
                        const std::vector<record::Volume>& rows);

/// For types that expect the bdev to exist (DeviceTraits::names_devices): waits for it, and returns
/// NOT_FOUND if it does not appear. Returns OK at once for other types.
absl::Status WaitForBdev(Core& core, const base::Context& context, const DeviceManager& manager,
                         const DeviceVolume& volume);

}  // namespace sma::core
