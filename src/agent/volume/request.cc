// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/request.h"

#include <fmt/format.h>

#include <utility>

#include "agent/volume/check_connection.h"
#include "base/secret.h"

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
  VolumeRequest request{.id = *id, .params = params, .secrets = {}, .keys = {}};
  if (absl::Status status = CheckConnection(request.params); !status.ok()) return status;
  request.secrets = TakeSecrets(request.params);
  if (!params.has_crypto()) return request;
  VolumeCryptoParameters& copy = *request.params.mutable_crypto();
  base::WipeString(*copy.mutable_key());
  base::WipeString(*copy.mutable_key2());
  absl::StatusOr<crypto::VolumeKeys> keys = crypto::VolumeKeys::FromRequest(params.crypto());
  if (!keys.ok()) return keys.status();
  request.keys = *std::move(keys);
  copy = request.keys->WithoutKeys();
  return request;
}

VolumeParameters TakeSecrets(VolumeParameters& params) {
  VolumeParameters secrets;
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

bool HasSecrets(const VolumeParameters& secrets) { return secrets.has_iscsi(); }

VolumeParameters WithSecrets(VolumeParameters params, const VolumeParameters& secrets) {
  params.MergeFrom(secrets);
  return params;
}

}  // namespace sma::volume
