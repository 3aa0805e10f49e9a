#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "agent/crypto/volume_keys.h"
#include "base/uuid.h"
#include "sma.pb.h"

namespace sma::volume {

/// A volume as a client asked for it, checked.
struct VolumeRequest {
  base::Uuid id;
  VolumeParameters params;                 // without keys and secrets: what the record may keep
  VolumeParameters secrets;                // those of the connection alone, in their places
  std::optional<crypto::VolumeKeys> keys;  // unset: not encrypted
};

/// INVALID_ARGUMENT: not 16 bytes.
absl::StatusOr<base::Uuid> CheckVolumeId(const std::string& bytes);

/// Checks what can be checked without asking anyone; of the parameters for encryption nothing but
/// their form (Encryption::Check). Transport addresses come out in one spelling: types
/// in lower case, ports there. INVALID_ARGUMENT: the id or a parameter is no good.
absl::StatusOr<VolumeRequest> CheckVolume(const VolumeParameters& params);

/// Moves the secrets of the connection out of `params`; what is returned has nothing else.
VolumeParameters TakeSecrets(VolumeParameters& params);

/// Whether there is anything in what TakeSecrets returned.
bool HasSecrets(const VolumeParameters& secrets);

/// `params` with `secrets` in their places again.
VolumeParameters WithSecrets(VolumeParameters params, const VolumeParameters& secrets);

}  // namespace sma::volume
