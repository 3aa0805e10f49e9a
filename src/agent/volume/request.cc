#include "agent/volume/request.h"

#include <fmt/format.h>

namespace sma::volume {

absl::StatusOr<base::Uuid> CheckVolumeId(const std::string& bytes) {
  std::optional<base::Uuid> id = base::Uuid::FromBytes(bytes);
  if (id) return *id;
  return absl::InvalidArgumentError(
      fmt::format("volume_id: {} bytes, but a UUID has 16", bytes.size()));
}

absl::StatusOr<VolumeRequest> CheckVolume(const VolumeParameters& params) {
  absl::StatusOr<base::Uuid> id = CheckVolumeId(params.volume_id());
  if (!id.ok()) return id.status();
  if (params.has_nvmf() || params.has_iscsi()) {
    return absl::UnimplementedError("volume: this agent connects no remote volumes");
  }
  VolumeRequest request{.id = *id, .params = params, .secrets = {}};
  request.secrets = TakeSecrets(request.params);
  return request;
}

VolumeParameters TakeSecrets(VolumeParameters& params) {
  VolumeParameters secrets;
  if (params.has_crypto()) {
    VolumeCryptoParameters& crypto = *params.mutable_crypto();
    secrets.mutable_crypto()->set_key(std::move(*crypto.mutable_key()));
    secrets.mutable_crypto()->set_key2(std::move(*crypto.mutable_key2()));
    crypto.clear_key();
    crypto.clear_key2();
  }
  auto take = [](iscsi::ChapCredentials& from, iscsi::ChapCredentials& to) {
    to.set_secret(std::move(*from.mutable_secret()));
    from.clear_secret();
  };
  if (params.has_iscsi() && params.iscsi().has_chap()) {
    take(*params.mutable_iscsi()->mutable_chap(), *secrets.mutable_iscsi()->mutable_chap());
  }
  if (params.has_iscsi() && params.iscsi().has_mutual_chap()) {
    take(*params.mutable_iscsi()->mutable_mutual_chap(),
         *secrets.mutable_iscsi()->mutable_mutual_chap());
  }
  return secrets;
}

bool HasSecrets(const VolumeParameters& secrets) {
  return secrets.has_crypto() || secrets.has_iscsi();
}

VolumeParameters WithSecrets(VolumeParameters params, const VolumeParameters& secrets) {
  params.MergeFrom(secrets);
  return params;
}

}  // namespace sma::volume
