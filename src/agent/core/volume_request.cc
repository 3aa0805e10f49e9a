#include "agent/core/volume_request.h"

#include <fmt/format.h>

namespace sma::core {

absl::StatusOr<base::Uuid> CheckVolumeId(const std::string& bytes) {
  std::optional<base::Uuid> id = base::Uuid::FromBytes(bytes);
  if (id) return *id;
  return absl::InvalidArgumentError(
      fmt::format("volume_id: {} bytes, but a UUID has 16", bytes.size()));
}

absl::StatusOr<VolumeRequest> CheckVolume(const VolumeParameters& params) {
  absl::StatusOr<base::Uuid> id = CheckVolumeId(params.volume_id());
  if (!id.ok()) return id.status();
  if (params.has_crypto()) {
    return absl::InvalidArgumentError("volume.crypto: no crypto engine is configured");
  }
  if (params.has_nvmf() || params.has_iscsi()) {
    return absl::UnimplementedError("volume: this agent connects no remote volumes");
  }
  VolumeRequest request{.id = *id, .params = {}};
  request.params.set_volume_id(params.volume_id());
  return request;
}

}  // namespace sma::core
