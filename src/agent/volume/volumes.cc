// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/volumes.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/spdk/bdev.h"
#include "agent/spdk/bdev_nvme.h"
#include "agent/spdk/call.h"
#include "agent/spdk/crypto.h"
#include "agent/volume/check_connection.h"
#include "base/lock_table.h"
#include "base/secret.h"
#include "jsonrpc/call_scope.h"

namespace sma::volume {

namespace {

// The maximum number of entries for layers of volumes that were not attached, before they are
// removed.
constexpr size_t kSpareLayers = 1000;

// Returns true if `request` has the same CHAP login as the volume with `params` and `secrets`.
bool SameLogin(const VolumeRequest& request, const VolumeParameters& params,
               const VolumeParameters& secrets) {
  const iscsi::VolumeConnectionParameters& asked = request.params.iscsi();
  return asked.chap().user() == params.iscsi().chap().user() &&
         asked.mutual_chap().user() == params.iscsi().mutual_chap().user() &&
         base::SecretsEqual(request.secrets.iscsi().chap().secret(),
                            secrets.iscsi().chap().secret()) &&
         base::SecretsEqual(request.secrets.iscsi().mutual_chap().secret(),
                            secrets.iscsi().mutual_chap().secret());
}

// Copies the CHAP users. The secrets are not part of these parameters.
void SetLogin(const iscsi::VolumeConnectionParameters& from,
              iscsi::VolumeConnectionParameters& to) {
  *to.mutable_chap() = from.chap();
  to.clear_mutual_chap();
  if (from.has_mutual_chap()) *to.mutable_mutual_chap() = from.mutual_chap();
}

// Returns the name of the bdev that has the UUID of a remote volume and does not come from a
// storage node: another client's, which appeared while the volume's own was missing. An iSCSI bdev
// of the agent has the volume's id as its name.
std::optional<std::string> FindImpostor(jsonrpc::Caller& target, const base::Context& context,
                                        SharedConnections& shared, const record::Volume& row) {
  if (!shared.ControllerOf(row.id).empty()) return std::nullopt;
  auto bdev = spdk::FindBdev(target, context, row.id.ToString(), std::chrono::nanoseconds(0));
  if (!bdev.ok() || !*bdev) return std::nullopt;
  const bool is_remote =
      row.params.has_iscsi() ? (*bdev)->name == row.id.ToString() : (*bdev)->is_nvme;
  return is_remote ? std::nullopt : std::optional((*bdev)->name);
}

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
      encryption_(options.late_action_time, target, std::move(engine), sealer_) {
  for (const record::Volume& row : record.Volumes()) NoteLayer(row);
}

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

void Volumes::NoteLayer(const record::Volume& row) {
  if (!row.params.has_crypto()) return;
  const size_t kept = 2 * record_.volume_count() + kSpareLayers;
  base::MutexLock lock(layers_mutex_);
  layers_.emplace(spdk::CryptoBdevUuid(row.id), row.id);
  // Failed attaches leave entries behind.
  if (layers_.size() <= kept) return;
  std::erase_if(layers_, [&](const auto& layer) {
    return layer.second != row.id && !record_.FindVolume(layer.second);
  });
}

void Volumes::ForgetLayer(const base::Uuid& volume) {
  base::MutexLock lock(layers_mutex_);
  layers_.erase(spdk::CryptoBdevUuid(volume));
}

absl::Status Volumes::CheckLayers(const record::Volume& row) const {
  {
    base::MutexLock lock(layers_mutex_);
    auto found = layers_.find(row.id);
    if (found != layers_.end()) {
      return absl::AlreadyExistsError(
          fmt::format("volume {} has the UUID of the crypto bdev of volume {}", row.id.ToString(),
                      found->second.ToString()));
    }
  }
  if (!row.params.has_crypto()) return absl::OkStatus();
  const base::Uuid layer = spdk::CryptoBdevUuid(row.id);
  if (!record_.FindVolume(layer)) return absl::OkStatus();
  return absl::AlreadyExistsError(
      fmt::format("volume {}: its crypto bdev would have the UUID of volume {}", row.id.ToString(),
                  layer.ToString()));
}

absl::StatusOr<record::Volume> Volumes::NewRow(const VolumeRequest& request,
                                               const std::string& device_handle) {
  record::Volume row;
  row.id = request.id;
  row.device_handle = device_handle;
  row.params = request.params;
  row.bdev_name = BaseBdevName(row);
  row.connection = connections_.Plan(request.id, request.params);
  connections_.shared().Track(request.id, request.params);
  row.created = row.state_since = std::chrono::system_clock::now();
  row.sealed = sealer_.Seal(request.id, request.secrets, request.keys ? &*request.keys : nullptr);
  NoteLayer(row);
  return row;
}

std::chrono::nanoseconds Volumes::BdevWaitOf(const record::Volume& row) const {
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

// Waits for the bdev of an encrypted volume: the crypto engine does not wait for its base bdev,
// while a device waits for the bdev that it exports.
absl::Status Volumes::FindLocal(const base::Context& context, const record::Volume& row) {
  if (!row.params.has_crypto()) return absl::OkStatus();
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(target_, context, row.id.ToString(), options_.local_wait);
  if (!bdev.ok()) return bdev.status();
  if (*bdev) return absl::OkStatus();
  return absl::NotFoundError(
      fmt::format("volume {} was not found on the target", row.id.ToString()));
}

// Returns the secrets with which the volume's connection can be recreated.
absl::StatusOr<VolumeParameters> Volumes::SecretsOf(const record::Volume& row) {
  if (!row.params.has_iscsi() || !row.params.iscsi().has_chap()) return VolumeParameters();
  return sealer_.Open(row.id, row.sealed);
}

bool Volumes::MatchesRecord(const VolumeRequest& request, const record::Volume& row) const {
  return !IsRemote(row) && !NeedsConnection(request.params) &&
         encryption_.MatchesRecord(request, row);
}

absl::Status Volumes::RepeatConnect(const base::Context& context, const VolumeRequest& request,
                                    record::Volume& row) {
  if (!IsRemote(row) && !NeedsConnection(request.params)) {
    return encryption_.RepeatSetup(context, request, row);
  }
  // Checked first, because a request that is refused must not change the connection.
  absl::Status status = encryption_.CheckRepeated(request, row);
  if (!status.ok()) return status;
  absl::StatusOr<VolumeParameters> secrets = SecretsOf(row);
  status = secrets.status();
  if (status.ok()) status = connections_.Extend(context, request.params, *secrets, row);
  const bool has_others =
      HasSecrets(request.secrets) && (!secrets.ok() || !SameLogin(request, row.params, *secrets));
  // The secrets on the storage node may have been changed, or the old ones were not kept.
  const bool is_other_login = row.params.has_iscsi() && has_others;
  const bool tries_others = !status.ok() && is_other_login;
  if (tries_others) {
    record::Volume changed = row;
    SetLogin(request.params.iscsi(), *changed.params.mutable_iscsi());
    const absl::Status other =
        connections_.Extend(context, request.params, request.secrets, changed);
    if (!other.ok()) return secrets.ok() ? status : other;
    row = std::move(changed);
    status = other;
  }
  // While the unit is connected, a new login is only stored, for the next time that the unit has to
  // be connected.
  const bool keeps_others = status.ok() && is_other_login && !tries_others &&
                            connections_.AcceptsLogin(context, row, request);
  if (keeps_others) SetLogin(request.params.iscsi(), *row.params.mutable_iscsi());
  if (status.ok()) status = encryption_.RepeatSetup(context, request, row);
  if (status.ok() && (tries_others || keeps_others)) {
    row.sealed = sealer_.Seal(row.id, request.secrets, request.keys ? &*request.keys : nullptr);
  }
  return status;
}

absl::Status Volumes::Release(const base::Context& context, const record::Volume& row) {
  // Once the base bdev is removed, the layer and its key can no longer be found.
  const std::vector<std::string> object = {base::LockTable::Volume(row.id).name};
  const bool may_get_layer = row.params.has_crypto() && IsRemote(row) &&
                             target_.MayActLate(object, options_.late_action_time);
  if (absl::Status status = encryption_.Cleanup(context, row); !status.ok()) return status;
  if (may_get_layer) {
    return absl::UnavailableError(
        fmt::format("volume {}: the target may still act on an earlier call that was abandoned",
                    row.id.ToString()));
  }
  // An attach that failed may have applied limits that were kept from an earlier attachment. Those
  // of an encrypted volume were on its layer; limits on the bdev below are not the agent's.
  if (row.state == record::VolumeState::kAttaching && !row.params.has_crypto() &&
      record_.FindLimits(row.id)) {
    if (absl::Status status = ClearLimits(context, row); !status.ok()) return status;
  }
  if (absl::Status status = connections_.Release(context, row); !status.ok()) return status;
  sealer_.Forget(row.id);
  ForgetLayer(row.id);
  return absl::OkStatus();
}

absl::StatusOr<std::string> Volumes::FindBdevName(const base::Context& context,
                                                  const record::Volume& row) {
  if (row.state == record::VolumeState::kAttached || !row.attachment.empty()) return row.bdev_name;
  return encryption_.FindBdevName(context, row);
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
          auto removal_of = [this](const record::Volume& volume) {
            return encryption_.RemovalRequests(volume);
          };
          absl::Status status = connections_.ReleaseIfDown(limited, row, removal_of, is_known);
          if (!status.ok()) {
            spdlog::debug("volume {}: {}", row.id.ToString(), std::string(status.message()));
          }
        }
      });
}

absl::Status Volumes::BeginRestore(const base::Context& context,
                                   const std::vector<record::Volume>& rows) {
  return connections_.Refresh(context, rows);
}

absl::Status Volumes::Restore(const base::Context& context, record::Volume& row, bool& may_export) {
  absl::Status status = IsRemote(row) ? connections_.Restore(context, row) : absl::OkStatus();
  if (IsRemote(row)) {
    const auto impostor = FindImpostor(target_, context, connections_.shared(), row);
    if (impostor) {
      may_export = false;
      return absl::AlreadyExistsError(
          fmt::format("volume {}: bdev {} has its UUID, but does not come from its storage node",
                      row.id.ToString(), *impostor));
    }
  }
  if (status.ok()) return encryption_.Restore(context, row, may_export);
  // The bdev under the volume's name or UUID may be another one.
  may_export =
      !absl::IsAlreadyExists(status) && encryption_.IsExportable(context, row).value_or(false);
  return status;
}

}  // namespace sma::volume
