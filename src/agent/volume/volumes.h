#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/record/record.h"
#include "agent/volume/connections.h"
#include "agent/volume/detach_guard.h"
#include "agent/volume/encryption.h"
#include "agent/volume/request.h"
#include "agent/volume/sealer.h"
#include "base/context.h"
#include "jsonrpc/caller.h"

namespace sma::volume {

struct Options {
  /// How long a bdev of the target's own may take to appear.
  std::chrono::nanoseconds local_wait = std::chrono::seconds(1);
  /// How long a remote volume may take to be found and connected.
  std::chrono::nanoseconds discovery_timeout = std::chrono::seconds(10);
  /// How long after its connection was lost the target may still act on a call.
  std::chrono::nanoseconds late_action_time = std::chrono::seconds(2);
};

/// Whether the volume's bdev is made or brought by the agent, so that it can go and come back.
bool IsRemote(const record::Volume& row);

/// What is between a volume and the device that exports it: the connection to the machine that has
/// it, and the layer that encrypts it. The core calls this in the order
///   attach:  NewRow → (row to the record) → Connect → device attaches row.bdev_name → limits
///   detach:  device detaches → Release → (row out of the record)
///   restore: BeginRestore once → Restore for each row → device restores
/// A volume that is a bdev of the target's own and not encrypted passes through without a remote
/// call. Thread-safe; the methods for one volume are called under that volume's lock, or under its
/// device's lock taken exclusively. They block, for as long as their context allows, where nothing
/// else is said.
///
/// Errors. Target not reachable: UNAVAILABLE. Where something could not be undone, or may still be
/// done by the target, the outcome is unknown: then Release is called later, as often as it takes.
class Volumes {
 public:
  /// `target` and `record` outlive this; what the record's rows use is counted. Writes to the
  /// record nothing but record::Volume::connection. `engine` encrypts volumes; `sealing_key` seals
  /// their keys and secrets in the record.
  Volumes(Options options, jsonrpc::Caller& target, record::Record& record,
          std::unique_ptr<CryptoEngine> engine, std::optional<base::Secret> sealing_key);
  ~Volumes();

  /// Called with volumes whose connection was restored in the background, in any thread; their
  /// devices can be restored then. Set it before other threads use this.
  void SetOnConnected(std::function<void(const std::vector<base::Uuid>& volumes)> on_connected);
  /// Ends all background work.
  void Stop() { connections_.nodes().Stop(); }

  /// Name of the engine that encrypts volumes.
  std::string_view engine_name() const { return encryption_.engine_name(); }

  /// CheckVolume, and the parameters for encryption; host names are looked up. No call to the
  /// target. INVALID_ARGUMENT. UNAVAILABLE: nobody tells the address of a host.
  absl::StatusOr<VolumeRequest> Check(const base::Context& context,
                                      const VolumeParameters& params) const;

  /// The row of a volume that is about to be attached, in state kAttaching, secrets sealed. No
  /// remote call.
  absl::StatusOr<record::Volume> NewRow(const VolumeRequest& request,
                                        const std::string& device_handle);

  /// How long the device may wait for the bdev of `row` after Connect.
  std::chrono::nanoseconds WaitOf(const record::Volume& row) const;

  /// Makes the connection and the layers of a row that NewRow made and the record has, so that
  /// there is a bdev `row.bdev_name`; fills in of `row` what is to be kept. Takes back what it did
  /// when it fails. NOT_FOUND: the volume was not found in time. INVALID_ARGUMENT: it is not in the
  /// subsystem asked for.
  Outcome Connect(const base::Context& context, const VolumeRequest& request, record::Volume& row);

  /// In place of Connect, for a device that takes plans (DeviceManager::takes_plans): not null
  /// where all that has to be made can be made along with the device's own calls, and then nothing
  /// is made yet. `request` outlives the plan. UNAVAILABLE.
  absl::StatusOr<std::unique_ptr<BdevPlan>> Plan(const base::Context& context,
                                                 const VolumeRequest& request,
                                                 record::Volume& row) {
    if (IsRemote(row)) return nullptr;
    return encryption_.Plan(context, request, row);
  }

  /// Makes sure that a volume that another agent has attached is as `request` says. `row`, which
  /// NewRow made, then holds what is to be kept. `exported`: the bdev that its device exports.
  /// INVALID_ARGUMENT: it is encrypted in another way. FAILED_PRECONDITION: the device exports
  /// something else.
  absl::Status TakeOver(const base::Context& context, const VolumeRequest& request,
                        record::Volume& row, const std::string& exported) {
    return encryption_.TakeOver(context, request, row, exported);
  }

  /// Fills in of `row`, of a volume that another agent has attached, how it is encrypted, so that
  /// it is never exported in clear. Its keys are kept as those of other volumes are.
  /// FAILED_PRECONDITION: it cannot be adopted, and why.
  absl::Status Adopt(const base::Context& context, const std::string& exported,
                     record::Volume& row) {
    connections_.shared().Track(row.id);
    return encryption_.Adopt(context, exported, row);
  }

  /// Removes limits from the volume's own bdev: those that count are on the layer that its device
  /// exports. Nothing for a volume without a layer. OK when the bdev does not exist.
  absl::Status ClearLimitsBelowLayer(const base::Context& context, const record::Volume& row);

  /// Whether `request` asks for an encrypted volume of this target that is by the record just as it
  /// should be, so that one look at its device tells whether it is. No remote call.
  bool IsKnownSame(const VolumeRequest& request, const record::Volume& row) const;

  /// A volume that is attached is asked for again: new addresses are used besides the old ones, and
  /// the connection is made sure of as by Restore. `row` then holds what is to be kept.
  /// INVALID_ARGUMENT: asked for with other parameters than those in use.
  absl::Status ConnectAgain(const base::Context& context, const VolumeRequest& request,
                            record::Volume& row);

  /// While volumes are being taken off their device: a device waits for the I/O under way to a
  /// volume, and that for its remote. For as long as the guard lives, where no path to a volume's
  /// remote is up and nothing else hangs on its connection, the connection is released, and the I/O
  /// fails. Attempts to connect the volumes are ended before this returns. Release still has to be
  /// called. Null: none of `rows` is remote.
  std::unique_ptr<DetachGuard> BeginDetach(const base::Context& context,
                                           std::vector<record::Volume> rows);

  /// Removes the layers, and releases the connection if nothing else uses it or hangs on it. The
  /// device has released the bdev before. OK when there is nothing left to do. UNAVAILABLE: the
  /// connection of an encrypted volume stays for as long as the target may still make its layer.
  absl::Status Release(const base::Context& context, const record::Volume& row);

  /// The name of the bdev that a device exports of a volume that is to be removed: that of the
  /// row, or of its layer, where the attach was not finished and the row does not have it. One
  /// round trip for an unfinished attach of an encrypted volume, otherwise none.
  absl::StatusOr<std::string> FindBdevName(const base::Context& context, const record::Volume& row);

  /// Looks at the target what is there of what `rows` share; before a Restore of many rows.
  absl::Status BeginRestore(const base::Context& context, const std::vector<record::Volume>& rows);

  /// Makes sure of the connection and the layers of an attached volume, and makes again what is
  /// missing. `row` then holds what is to be kept. Does not wait for the bdev to appear: the device
  /// tells whether it did. Does not wait for a storage node that does not answer: UNAVAILABLE with
  /// the reason then, IsConnecting() is true, and the callback of SetOnConnected is called when it
  /// is connected. No remote call where nothing is missing, but for layers and iSCSI.
  absl::Status Restore(const base::Context& context, record::Volume& row);
  /// Whether the volume is being connected in the background.
  bool IsConnecting(const record::Volume& row) const { return connections_.IsRestoring(row); }

  /// Paths to the remote subsystem of a volume, as of the last LookAtPaths; nullopt: unknown, or
  /// the volume has none. A bdev of a volume without a path that is up does no I/O.
  std::optional<PathCount> PathsOf(const base::Uuid& volume) {
    return connections_.shared().PathsOf(volume);
  }
  /// Asks the target for the states of all paths: one call, no bdev is asked for.
  absl::Status LookAtPaths(const base::Context& context) {
    return connections_.shared().LookAtControllers(context);
  }
  /// What the target said of the bdev of a volume; nullopt: it has none. `generation`: of the
  /// target before it was asked.
  void NoteBdev(uint64_t generation, const base::Uuid& volume,
                const std::optional<spdk::Bdev>& bdev) {
    connections_.shared().NoteBdev(generation, volume, bdev);
  }

 private:
  absl::Status ClearLimits(const base::Context& context, const record::Volume& row);
  absl::Status FindLocal(const base::Context& context, const record::Volume& row);
  absl::StatusOr<VolumeParameters> SecretsOf(const record::Volume& row);

  const Options options_;
  jsonrpc::Caller& target_;
  record::Record& record_;
  Sealer sealer_;
  Connections connections_;
  Encryption encryption_;
};

}  // namespace sma::volume
