#include "agent/volume/volumes.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/spdk/bdev.h"
#include "agent/spdk/bdev_nvme.h"
#include "agent/spdk/call.h"
#include "agent/volume/check_connection.h"
#include "base/lock_table.h"
#include "jsonrpc/call_scope.h"

namespace sma::volume {

namespace {

bool NeedsConnection(const VolumeParameters& params) {
  return params.has_nvmf() || params.has_iscsi();
}

}  // namespace

bool IsRemote(const record::Volume& row) { return NeedsConnection(row.params); }

Volumes::Volumes(Options options, jsonrpc::Caller& target, record::Record& record,
                 std::unique_ptr<CryptoEngine> engine, std::optional<base::Secret> sealing_key)
    : options_(options),
      target_(target),
      record_(record),
      sealer_(std::move(sealing_key)),
      connections_(options.discovery_timeout, target, record,
                   [this](const record::Volume& row) { return SecretsOf(row); }),
      encryption_(target, std::move(engine), sealer_) {}

Volumes::~Volumes() { Stop(); }

void Volumes::SetOnConnected(
    std::function<void(const std::vector<base::Uuid>& volumes)> on_connected) {
  connections_.nodes().SetOnRestored(
      [this, on_connected = std::move(on_connected)](const std::string& key) {
        on_connected(connections_.VolumesOf(key));
      });
}

absl::StatusOr<VolumeRequest> Volumes::Check(const base::Context& context,
                                             const VolumeParameters& params) const {
  absl::StatusOr<VolumeRequest> request = CheckVolume(params);
  if (!request.ok()) return request;
  if (absl::Status status = encryption_.Check(*request); !status.ok()) return status;
  const base::Context limited =
      context.Child(std::chrono::steady_clock::now() + options_.discovery_timeout);
  absl::Status status = ResolveHosts(limited, request->params);
  if (absl::IsDeadlineExceeded(status) && !context.done()) {
    status = absl::UnavailableError(status.message());
  }
  if (!status.ok()) return status;
  return request;
}

absl::StatusOr<record::Volume> Volumes::NewRow(const VolumeRequest& request,
                                               const std::string& device_handle) {
  record::Volume row;
  row.id = request.id;
  row.device_handle = device_handle;
  row.params = request.params;
  row.bdev_name = BaseBdevName(row);
  row.connection = connections_.Plan(request.id, request.params);
  connections_.shared().Track(request.id);
  row.created = row.state_since = std::chrono::system_clock::now();
  row.sealed = sealer_.Seal(request.id, request.secrets, request.keys ? &*request.keys : nullptr);
  return row;
}

std::chrono::nanoseconds Volumes::WaitOf(const record::Volume& row) const {
  bool is_there = IsRemote(row) || row.params.has_crypto();
  return is_there ? std::chrono::nanoseconds(0) : options_.local_wait;
}

Outcome Volumes::Connect(const base::Context& context, const VolumeRequest& request,
                         record::Volume& row) {
  Outcome outcome =
      IsRemote(row) ? connections_.Connect(context, request.secrets, row) : FindLocal(context, row);
  if (absl::IsAlreadyExists(outcome.status())) return outcome;
  if (outcome.ok()) outcome = encryption_.Setup(context, request, row);
  if (outcome.ok() || outcome.is_unknown()) return outcome;
  return std::move(outcome).AfterUndo(Release(spdk::UndoContext(), row));
}

// The device that exports a volume waits for its bdev; the layer that encrypts does not.
absl::Status Volumes::FindLocal(const base::Context& context, const record::Volume& row) {
  if (!row.params.has_crypto()) return absl::OkStatus();
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(target_, context, row.id.ToString(), options_.local_wait);
  if (!bdev.ok()) return bdev.status();
  if (*bdev) return absl::OkStatus();
  return absl::NotFoundError(
      fmt::format("volume {} was not found on the target", row.id.ToString()));
}

// What the connection of the volume needs to be made again.
absl::StatusOr<VolumeParameters> Volumes::SecretsOf(const record::Volume& row) {
  if (!row.params.has_iscsi() || !row.params.iscsi().has_chap()) return VolumeParameters();
  return sealer_.Open(row.id, row.sealed);
}

bool Volumes::IsKnownSame(const VolumeRequest& request, const record::Volume& row) const {
  return !IsRemote(row) && !NeedsConnection(request.params) &&
         encryption_.IsKnownSame(request, row);
}

absl::Status Volumes::ConnectAgain(const base::Context& context, const VolumeRequest& request,
                                   record::Volume& row) {
  if (!IsRemote(row) && !NeedsConnection(request.params)) {
    return encryption_.SetupAgain(context, request, row);
  }
  absl::StatusOr<VolumeParameters> secrets = SecretsOf(row);
  if (!secrets.ok() && HasSecrets(request.secrets)) {
    // They were not kept, and here they are again. What is kept of keys is not touched.
    std::string sealed = sealer_.Seal(row.id, request.secrets, nullptr);
    if (!row.params.has_crypto()) row.sealed = std::move(sealed);
    secrets = request.secrets;
  }
  if (!secrets.ok()) return secrets.status();
  absl::Status status = connections_.Extend(context, request.params, *secrets, row);
  return status.ok() ? encryption_.SetupAgain(context, request, row) : status;
}

absl::Status Volumes::Release(const base::Context& context, const record::Volume& row) {
  // A layer whose base goes is out of reach, and its key with it.
  const std::vector<std::string> object = {base::LockTable::Volume(row.id).name};
  const bool may_get_layer = row.params.has_crypto() && IsRemote(row) &&
                             target_.MayActLate(object, options_.late_action_time);
  if (absl::Status status = encryption_.Cleanup(context, row); !status.ok()) return status;
  if (may_get_layer) {
    return absl::UnavailableError(fmt::format(
        "volume {}: the target may still act on a call that was given up", row.id.ToString()));
  }
  // An attach that failed may have set the limits of the volume's last life.
  if (row.state == record::VolumeState::kAttaching && record_.FindLimits(row.id)) {
    if (absl::Status status = ClearLimits(context, row); !status.ok()) return status;
  }
  if (absl::Status status = connections_.Release(context, row); !status.ok()) return status;
  sealer_.Forget(row.id);
  return absl::OkStatus();
}

absl::StatusOr<std::string> Volumes::FindBdevName(const base::Context& context,
                                                  const record::Volume& row) {
  if (row.state != record::VolumeState::kAttaching) return row.bdev_name;
  return encryption_.FindBdevName(context, row);
}

absl::Status Volumes::ClearLimitsBelowLayer(const base::Context& context,
                                            const record::Volume& row) {
  return row.bdev_name == BaseBdevName(row) ? absl::OkStatus() : ClearLimits(context, row);
}

absl::Status Volumes::ClearLimits(const base::Context& context, const record::Volume& row) {
  const spdk::RateLimits none{
      .rw_ios_per_sec = 0, .rw_mbytes_per_sec = 0, .r_mbytes_per_sec = 0, .w_mbytes_per_sec = 0};
  absl::Status status = spdk::SetQosLimits(target_, context, BaseBdevName(row), none);
  return spdk::IsUnknownName(status) ? absl::OkStatus() : status;
}

std::unique_ptr<DetachGuard> Volumes::BeginDetach(const base::Context& context,
                                                  std::vector<record::Volume> rows) {
  std::erase_if(rows, [](const record::Volume& row) { return !IsRemote(row); });
  if (rows.empty()) return nullptr;
  for (const record::Volume& row : rows) connections_.EndAttempts(context, row).IgnoreError();
  return std::make_unique<DetachGuard>(
      [this, rows = std::move(rows), objects = jsonrpc::CallScope::Current()](
          const base::Context& limited, bool is_known) {
        const jsonrpc::CallScope scope(objects);
        for (const record::Volume& row : rows) {
          absl::Status status =
              connections_.ReleaseIfDown(limited, row, encryption_.RemovalRequests(row), is_known);
          if (!status.ok()) {
            spdlog::debug("volume {}: {}", row.id.ToString(), std::string(status.message()));
          }
        }
      });
}

absl::Status Volumes::BeginRestore(const base::Context& context,
                                   const std::vector<record::Volume>& rows) {
  return connections_.Look(context, rows);
}

absl::Status Volumes::Restore(const base::Context& context, record::Volume& row) {
  if (IsRemote(row)) {
    absl::Status status = connections_.Restore(context, row);
    if (!status.ok()) return status;
  }
  return encryption_.Restore(context, row);
}

}  // namespace sma::volume
