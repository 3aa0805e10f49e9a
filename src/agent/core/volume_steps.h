#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "agent/core/core.h"
#include "agent/core/operation.h"
#include "sma/device_manager.h"
#include "sma/outcome.h"

namespace sma::core {

// Steps that several use cases have in common. They are done under the locks of device and volume.

/// What the step that exports a volume gets: where its bdev is, or how it is made.
using Export = std::function<Outcome(const DeviceVolume& volume)>;

/// Connects the volume of `row`, a new one, and has `export_volume` export it: in one go where
/// `manager` takes plans and there is one. What this did is undone with `operation`; fills in of
/// `row` what is to be kept. Nothing of it is left when it is not done, or it is unknown.
Outcome ConnectAndExport(Core& core, const base::Context& context, Operation& operation,
                         DeviceManager& manager, const VolumeRequest& request, record::Volume& row,
                         const Export& export_volume);

/// Sets the limits that the record has of a volume that was attached just now; OK where it has
/// none.
absl::Status ApplyLimits(Core& core, const base::Context& context, DeviceManager& manager,
                         const DeviceSpec& device, const DeviceVolume& volume);

/// An attached volume is asked for again: makes sure of its connection, and writes down what came
/// of it. INVALID_ARGUMENT: asked for with other parameters than those in use.
absl::Status ConnectAgain(Core& core, const base::Context& context, const VolumeRequest& request,
                          record::Volume& row);

/// Whether an encrypted volume is exported as `request` asks for, by one look at its device, where
/// its layer is then, too. False: it takes more than that to tell.
bool IsIntact(Core& core, const base::Context& context, DeviceManager& manager,
              const DeviceSpec& device, const VolumeRequest& request, const record::Volume& row);

/// A new volume for a device that is ready.
Outcome AttachNew(Core& core, const base::Context& context, DeviceManager& manager,
                  const DeviceSpec& device, const VolumeRequest& request);

/// Finishes what detaching volumes, or deleting their device, has begun: removes the limits from
/// the target and releases the connections. The first error after having tried all.
absl::Status ReleaseAll(Core& core, const base::Context& context, const DeviceManager& manager,
                        const std::vector<record::Volume>& rows);

/// UNAVAILABLE: the volume's bdev did not appear. For types that expect it to be there
/// (DeviceTraits::names_devices); OK for others.
absl::Status WaitForBdev(Core& core, const base::Context& context, const DeviceManager& manager,
                         const DeviceVolume& volume);

}  // namespace sma::core
