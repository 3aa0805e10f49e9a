#pragma once

#include "absl/status/statusor.h"
#include "base/uuid.h"
#include "sma.pb.h"

namespace sma::core {

/// A volume as a client asked for it, checked.
struct VolumeRequest {
  base::Uuid id;
  VolumeParameters params;  // without keys and secrets: what the record may keep
};

/// INVALID_ARGUMENT: not 16 bytes.
absl::StatusOr<base::Uuid> CheckVolumeId(const std::string& bytes);

/// INVALID_ARGUMENT: the id or a parameter is no good. UNIMPLEMENTED: a kind of connection that
/// this agent cannot make.
absl::StatusOr<VolumeRequest> CheckVolume(const VolumeParameters& params);

}  // namespace sma::core
