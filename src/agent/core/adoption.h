// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/core/core.h"
#include "base/context.h"
#include "sma/device_manager.h"
#include "sma_admin.pb.h"

namespace sma::core {

/// Converts a candidate to the admin service's message.
admin::v1::AdoptionCandidate CandidateMessage(const AdoptionCandidate& candidate, DeviceType type);

/// Returns the objects on the target that could be devices of the type and are not in the record.
absl::StatusOr<std::vector<AdoptionCandidate>> FindCandidates(const Core& core,
                                                              const base::Context& context,
                                                              DeviceManager& manager);

/// Returns the rows for adopting `candidate`, a device with its volumes, each with its encryption
/// as the target has it. Returns FAILED_PRECONDITION if it cannot be adopted, or if one of its
/// volumes is in the record. The caller holds the locks of the device and the volumes.
absl::StatusOr<record::Change> RowsToAdopt(const Core& core, const base::Context& context,
                                           const DeviceManager& manager,
                                           const AdoptionCandidate& candidate);

/// Adopts the candidate `handle` with the confirmed volumes. The caller holds the locks of the
/// device and the volumes. Does not change the target. Returns NOT_FOUND if there is no such
/// candidate; FAILED_PRECONDITION if it cannot be adopted, if its volumes differ from the confirmed
/// ones, or if one of them is in the record.
absl::Status Adopt(Core& core, const base::Context& context, DeviceManager& manager,
                   const std::string& handle, const std::set<base::Uuid>& confirmed);

}  // namespace sma::core
