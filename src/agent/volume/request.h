// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "agent/crypto/volume_keys.h"
#include "base/uuid.h"
#include "sma.pb.h"

namespace sma::volume {

/// A checked request for a volume.
struct VolumeRequest {
  base::Uuid id;
  VolumeParameters params;                 // as the record may keep them: no keys or secrets
  VolumeParameters secrets;                // the connection's secrets alone
  std::optional<crypto::VolumeKeys> keys;  // unset: not encrypted
};

/// Returns INVALID_ARGUMENT unless `bytes` has 16 bytes.
absl::StatusOr<base::Uuid> CheckVolumeId(const std::string& bytes);

/// Checks everything that can be checked without a remote call. Checks only the form of the
/// encryption parameters; Encryption::Check does the rest. Transport addresses are returned in
/// canonical form: types in lower case, with ports. Returns INVALID_ARGUMENT if the id or a
/// parameter is invalid.
absl::StatusOr<VolumeRequest> CheckVolume(const VolumeParameters& params);

/// Moves the connection's secrets out of `params`; the result contains nothing else.
VolumeParameters TakeSecrets(VolumeParameters& params);

/// Returns true if a result of TakeSecrets holds a secret.
bool HasSecrets(const VolumeParameters& secrets);

/// Returns `params` with `secrets` restored to their fields.
VolumeParameters WithSecrets(VolumeParameters params, const VolumeParameters& secrets);

}  // namespace sma::volume
