#pragma once

#include <set>

#include "absl/status/statusor.h"
#include "agent/record/record.h"
#include "sma/device_manager.h"
#include "sma_admin.pb.h"

namespace sma::core {

/// A candidate as the admin service tells it.
admin::v1::AdoptionCandidate CandidateMessage(const AdoptionCandidate& candidate, DeviceType type);

/// The rows that take `candidate` over, with the volumes that were confirmed. FAILED_PRECONDITION:
/// it cannot be adopted, its volumes are others, or one of them is on a device of ours.
absl::StatusOr<record::Change> AdoptionOf(const AdoptionCandidate& candidate,
                                          const DeviceManager& manager,
                                          const std::set<base::Uuid>& confirmed,
                                          const record::Record& record);

}  // namespace sma::core
