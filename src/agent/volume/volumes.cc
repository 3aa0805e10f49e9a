#include "agent/volume/volumes.h"

#include <fmt/format.h>

#include <utility>

#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "jsonrpc/error.h"

namespace sma::volume {

bool IsRemote(const record::Volume& row) { return row.params.has_nvmf() || row.params.has_iscsi(); }

Volumes::Volumes(Options options, jsonrpc::Caller& target,
                 const std::vector<record::Volume>& /*rows*/, std::unique_ptr<CryptoEngine> engine,
                 std::optional<base::Secret> sealing_key)
    : options_(options),
      target_(target),
      sealer_(std::move(sealing_key)),
      encryption_(target, std::move(engine), sealer_) {}

Volumes::~Volumes() = default;

absl::StatusOr<VolumeRequest> Volumes::Check(const VolumeParameters& params) const {
  absl::StatusOr<VolumeRequest> request = CheckVolume(params);
  if (!request.ok()) return request;
  if (absl::Status status = encryption_.Check(*request); !status.ok()) return status;
  return request;
}

absl::StatusOr<record::Volume> Volumes::NewRow(const VolumeRequest& request,
                                               const std::string& device_handle) {
  record::Volume row;
  row.id = request.id;
  row.device_handle = device_handle;
  row.params = request.params;
  row.bdev_name = BaseBdevName(row);
  row.created = row.state_since = std::chrono::system_clock::now();
  row.sealed = sealer_.Seal(request.id, request.secrets, request.keys ? &*request.keys : nullptr);
  return row;
}

std::chrono::nanoseconds Volumes::WaitOf(const record::Volume& row) const {
  bool is_there = IsRemote(row) || row.params.has_crypto();
  return is_there ? std::chrono::nanoseconds(0) : options_.local_wait;
}

absl::Status Volumes::Connect(const base::Context& context, const VolumeRequest& request,
                              record::Volume& row) {
  absl::Status status = ConnectBase(context, row);
  if (status.ok()) status = encryption_.Setup(context, request, row);
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

absl::Status Volumes::ConnectAgain(const base::Context& context, const VolumeRequest& request,
                                   record::Volume& row) {
  return encryption_.SetupAgain(context, request, row);
}

absl::Status Volumes::Release(const base::Context& context, const record::Volume& row) {
  if (absl::Status status = encryption_.Cleanup(context, row); !status.ok()) return status;
  sealer_.Forget(row.id);
  return absl::OkStatus();
}

absl::Status Volumes::BeginRestore(const base::Context& /*context*/) { return absl::OkStatus(); }

absl::Status Volumes::Restore(const base::Context& context, record::Volume& row) {
  return encryption_.Restore(context, row);
}

}  // namespace sma::volume
