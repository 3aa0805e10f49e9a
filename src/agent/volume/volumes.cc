#include "agent/volume/volumes.h"

#include <fmt/format.h>

#include <utility>

#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "jsonrpc/error.h"

namespace sma::volume {

bool IsRemote(const record::Volume& row) { return row.params.has_nvmf() || row.params.has_iscsi(); }

Volumes::Volumes(Options options, jsonrpc::Caller& target,
                 const std::vector<record::Volume>& /*rows*/, std::unique_ptr<CryptoLayer> crypto,
                 std::unique_ptr<Sealer> sealer)
    : options_(options), target_(target), crypto_(std::move(crypto)), sealer_(std::move(sealer)) {}

Volumes::~Volumes() = default;

absl::StatusOr<VolumeRequest> Volumes::Check(const VolumeParameters& params) const {
  absl::StatusOr<VolumeRequest> request = CheckVolume(params);
  if (!request.ok() || !params.has_crypto()) return request;
  if (crypto_ == nullptr) {
    return absl::InvalidArgumentError("volume.crypto: no crypto engine is configured");
  }
  if (absl::Status status = crypto_->Check(params.crypto()); !status.ok()) return status;
  return request;
}

absl::StatusOr<record::Volume> Volumes::NewRow(const VolumeRequest& request,
                                               const std::string& device_handle) {
  record::Volume row;
  row.id = request.id;
  row.device_handle = device_handle;
  row.params = request.params;
  row.bdev_name =
      request.params.has_crypto() ? crypto_->BdevName(request.id) : request.id.ToString();
  row.created = row.state_since = std::chrono::system_clock::now();
  if (HasSecrets(request.secrets)) {
    absl::StatusOr<std::string> sealed = sealer_->Seal(request.id, request.secrets);
    if (!sealed.ok()) return sealed.status();
    row.sealed = *std::move(sealed);
  }
  return row;
}

std::chrono::nanoseconds Volumes::WaitOf(const record::Volume& row) const {
  bool is_there = IsRemote(row) || row.params.has_crypto();
  return is_there ? std::chrono::nanoseconds(0) : options_.local_wait;
}

absl::Status Volumes::Connect(const base::Context& context, record::Volume& row) {
  absl::Status status = ConnectBase(context, row);
  if (status.ok() && row.params.has_crypto()) status = MakeCrypto(context, row);
  if (status.ok() || jsonrpc::IsFateUnknown(status)) return status;
  absl::Status undone = Release(spdk::UndoContext(), row);
  return undone.ok() ? status : jsonrpc::WithFateUnknown(std::move(status));
}

absl::Status Volumes::ConnectBase(const base::Context& context, record::Volume& row) {
  if (!row.params.has_crypto()) return absl::OkStatus();
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(target_, context, row.id.ToString(), options_.local_wait);
  if (!bdev.ok()) return bdev.status();
  if (*bdev) return absl::OkStatus();
  return absl::NotFoundError(
      fmt::format("volume {} was not found on the target", row.id.ToString()));
}

absl::Status Volumes::MakeCrypto(const base::Context& context, const record::Volume& row) {
  if (crypto_ == nullptr) {
    return absl::FailedPreconditionError(
        fmt::format("volume {}: it is encrypted, and no crypto engine is configured any more",
                    row.id.ToString()));
  }
  absl::StatusOr<VolumeParameters> secrets = sealer_->Open(row.id, row.sealed);
  if (!secrets.ok()) return secrets.status();
  return crypto_->Make(context, row.id, row.id.ToString(),
                       WithSecrets(row.params, *secrets).crypto());
}

absl::Status Volumes::ConnectAgain(const base::Context& context, const VolumeRequest& request,
                                   record::Volume& row) {
  if (absl::Status status = CheckSameCrypto(request, row); !status.ok()) return status;
  return Restore(context, row);
}

absl::Status Volumes::CheckSameCrypto(const VolumeRequest& request, const record::Volume& row) {
  auto differs = [&] {
    return absl::InvalidArgumentError(fmt::format(
        "volume.crypto: volume {} is attached with other parameters", row.id.ToString()));
  };
  if (request.params.has_crypto() != row.params.has_crypto()) return differs();
  if (!row.params.has_crypto()) return absl::OkStatus();
  absl::StatusOr<VolumeParameters> secrets = sealer_->Open(row.id, row.sealed);
  if (!secrets.ok()) return secrets.status();
  const std::string asked =
      WithSecrets(request.params, request.secrets).crypto().SerializeAsString();
  bool same = asked == WithSecrets(row.params, *secrets).crypto().SerializeAsString();
  return same ? absl::OkStatus() : differs();
}

absl::Status Volumes::Release(const base::Context& context, const record::Volume& row) {
  if (row.params.has_crypto() && crypto_ != nullptr) {
    if (absl::Status status = crypto_->Remove(context, row.id); !status.ok()) return status;
  }
  sealer_->Forget(row.id);
  return absl::OkStatus();
}

absl::Status Volumes::BeginRestore(const base::Context& /*context*/) { return absl::OkStatus(); }

absl::Status Volumes::Restore(const base::Context& context, record::Volume& row) {
  return row.params.has_crypto() ? MakeCrypto(context, row) : absl::OkStatus();
}

}  // namespace sma::volume
