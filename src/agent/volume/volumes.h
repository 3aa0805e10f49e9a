// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
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
#include "base/mutex.h"
#include "jsonrpc/caller.h"

namespace sma::volume {

struct Options {
  /// How long to wait for a local bdev of the target to appear.
  std::chrono::nanoseconds local_wait = std::chrono::seconds(1);
  /// The time limit for finding and connecting a remote volume.
  std::chrono::nanoseconds discovery_timeout = std::chrono::seconds(10);
  /// How long after its connection was lost the target may still act on a call.
  std::chrono::nanoseconds late_action_time = std::chrono::seconds(2);
};

/// Returns true if the agent connects the target to the volume, whose bdev can then disappear and
/// reappear.
bool IsRemote(const record::Volume& row);

/// Everything between a volume and the device that exports it: the connection to its storage node,
/// and the layer that encrypts it. The core calls this in the order
///   attach:  NewRow → (write the row) → Connect → device attaches row.bdev_name → limits
///   detach:  device detaches → Release → (remove the row)
///   restore: BeginRestore once → Restore for each row → device restores
/// For a volume that is a local bdev of the target and not encrypted, no remote call is made.
/// Thread-safe; the methods for one volume are called with that volume's lock held, or its device's
/// lock held exclusively. Unless stated otherwise, they block until their context ends at the
/// latest.
///
/// All methods return UNAVAILABLE if the target is not reachable. The outcome is unknown if
/// something could not be rolled back, or if the target may still act on a call: then Release must
/// be called later, and repeated until it succeeds.
class Volumes {
 public:
  /// `target` and `record` must outlive this object. Counts the connections that the record's rows
  /// use; writes only record::Volume::connection to the record. `engine` encrypts volumes;
  /// `sealing_key` seals their keys and secrets in the record.
  Volumes(Options options, jsonrpc::Caller& target, record::Record& record,
          std::unique_ptr<CryptoEngine> engine, std::optional<base::Secret> sealing_key);
  ~Volumes();

  /// `on_connected` is called, on any thread, with volumes whose connection was restored in the
  /// background, so that their devices can be restored. Call this before other threads use this
  /// object.
  void SetOnConnected(std::function<void(const std::vector<base::Uuid>& volumes)> on_connected);
  /// Ends all background work.
  void Stop() { connections_.nodes().Stop(); }

  /// Returns the name of the engine that encrypts volumes.
  std::string_view engine_name() const { return encryption_.engine_name(); }

  /// Checks a request with CheckVolume and Encryption::Check, and resolves host names. Does not
  /// call the target. Returns INVALID_ARGUMENT, or UNAVAILABLE if a host name cannot be resolved at
  /// present.
  absl::StatusOr<VolumeRequest> Check(const base::Context& context,
                                      const VolumeParameters& params) const;

  /// Returns the row of a volume that is about to be attached: in state kAttaching, with its
  /// secrets sealed. Makes no remote call.
  absl::StatusOr<record::Volume> NewRow(const VolumeRequest& request,
                                        const std::string& device_handle);

  /// Returns ALREADY_EXISTS if the id of `row` is the UUID of the layer of another volume, or vice
  /// versa. A device type that does not claim its bdev would find such a layer by that UUID, and a
  /// host would get the clear text of the other volume. Call this after the row was written to the
  /// record: the later one of two concurrent calls then fails. Makes no remote call.
  absl::Status CheckLayers(const record::Volume& row) const;

  /// Returns how long the device may wait for the bdev of `row` after Connect.
  std::chrono::nanoseconds BdevWaitOf(const record::Volume& row) const;

  /// Creates the connection and the layer for a row that NewRow returned and that has been written
  /// to the record, so that the bdev `row.bdev_name` exists, and completes `row`. Rolls back if it
  /// fails. Returns NOT_FOUND if the volume was not found in time, INVALID_ARGUMENT if it is not in
  /// the requested subsystem.
  Outcome Connect(const base::Context& context, const VolumeRequest& request, record::Volume& row);

  /// To be used instead of Connect for a device that takes plans (DeviceManager::takes_plans).
  /// Creates nothing yet: the plan's requests are sent in one batch with the device's own calls.
  /// Returns null if Connect must be called instead. `request` must outlive the plan. Returns
  /// UNAVAILABLE if the target is not reachable.
  absl::StatusOr<std::unique_ptr<BdevPlan>> Plan(const base::Context& context,
                                                 const VolumeRequest& request,
                                                 record::Volume& row) {
    if (IsRemote(row)) return nullptr;
    return encryption_.Plan(context, request, row);
  }

  /// Checks that a volume that another agent attached is configured as `request` specifies, and
  /// completes `row`, which NewRow returned. `exported` is the bdev that the volume's device
  /// exports. Returns INVALID_ARGUMENT if the volume is encrypted in a different way, and
  /// FAILED_PRECONDITION if the device exports something else.
  absl::Status VerifyAndAdopt(const base::Context& context, const VolumeRequest& request,
                              record::Volume& row, const std::string& exported) {
    return encryption_.VerifyAndAdopt(context, request, row, exported);
  }

  /// Completes the row of a volume that another agent attached with the way in which it is
  /// encrypted, so that it is never exported in clear. Its keys are kept like those of other
  /// volumes. Sets the `status` of each volume: FAILED_PRECONDITION, with the reason, if it cannot
  /// be adopted.
  void Adopt(const base::Context& context, std::span<Adoption> adoptions) {
    encryption_.AdoptAll(context, adoptions);
    for (Adoption& adoption : adoptions) {
      if (adoption.status.ok()) adoption.status = CheckLayers(*adoption.row);
    }
  }
  /// To be called before a row that Adopt completed is written.
  void NoteAdopted(const record::Volume& row) {
    connections_.shared().Track(row.id, row.params);
    NoteLayer(row);
  }

  /// Returns true if `request` is for a local, encrypted volume that, according to the record, is
  /// attached with the same parameters, so that one query of its device shows whether it is
  /// complete. Makes no remote call.
  bool MatchesRecord(const VolumeRequest& request, const record::Volume& row) const;

  /// Handles a repeated request for an attached volume: connects it through new addresses as well
  /// as the old ones, restores the connection as Restore does, and completes `row`. Returns
  /// INVALID_ARGUMENT if the request's parameters differ from those in use.
  absl::Status RepeatConnect(const base::Context& context, const VolumeRequest& request,
                             record::Volume& row);

  /// Call this before volumes are detached from their device, and keep the guard until they are
  /// detached. A device waits for I/O in progress to a volume, and this I/O waits for the storage
  /// node. During the guard's lifetime, if no path to a volume is up and no other volume depends on
  /// its connection, the connection is released, so that the I/O fails. Attempts to connect the
  /// volumes are ended before this returns. Release must still be called. Returns null if none of
  /// `rows` is remote.
  std::unique_ptr<DetachGuard> BeginDetach(const base::Context& context,
                                           std::vector<record::Volume> rows);

  /// Removes the layer, and releases the connections that no other volume uses or depends on. The
  /// device must already have released the bdev. Returns OK if nothing is left to do. Returns
  /// UNAVAILABLE, and keeps the connection of an encrypted volume, while the target may still
  /// create its layer.
  absl::Status Release(const base::Context& context, const record::Volume& row);

  /// Returns the name of the bdev that a device exports for a volume that is to be removed: the
  /// name in the row, or the layer's name if the attach did not finish and the row does not have it
  /// yet. Takes one round trip for an unfinished attach of an encrypted volume, otherwise none.
  absl::StatusOr<std::string> FindBdevName(const base::Context& context, const record::Volume& row);

  /// Queries the connections of `rows` on the target; call this before calling Restore for many
  /// rows.
  absl::Status BeginRestore(const base::Context& context, const std::vector<record::Volume>& rows);

  /// Recreates the missing parts of the connection and the layer of an attached volume, and
  /// completes `row`. Does not wait for the bdev to appear: the device reports whether it did. Does
  /// not wait for a storage node that does not answer: returns UNAVAILABLE with the reason,
  /// IsConnecting() returns true, and the callback of SetOnConnected is called once the volume is
  /// connected. If nothing is missing, makes no remote call except for encrypted and iSCSI volumes.
  /// `may_export` is always set: it is false if the bdev that `row` names may belong to another
  /// owner, so that the device must not export it.
  absl::Status Restore(const base::Context& context, record::Volume& row, bool& may_export);
  /// Returns why the target has no bdev of an attached volume: NOT_FOUND if its storage nodes are
  /// connected and do not have it, or if it is local; UNAVAILABLE, with the addresses, if a node is
  /// not connected. Uses the known state of the connections; makes no remote call.
  absl::Status WhyMissing(const record::Volume& row) const { return connections_.WhyMissing(row); }
  /// Returns true if the storage nodes of a remote volume without a bdev answer now, and say that
  /// they do not have it. Queries the target and the nodes.
  bool IsGone(const base::Context& context, const record::Volume& row) {
    return connections_.IsGone(context, row);
  }
  /// Returns true while the volume is being connected in the background.
  bool IsConnecting(const record::Volume& row) const { return connections_.IsRestoring(row); }

  /// Returns the paths to the remote subsystem of a volume as of the last RefreshPaths; nullopt if
  /// they are unknown or the volume has none. Without a path that is up, the volume's bdev does no
  /// I/O.
  std::optional<PathCount> PathsOf(const base::Uuid& volume) {
    return connections_.shared().PathsOf(volume);
  }
  /// Returns true if, as of the last RefreshPaths, no path to a remote volume is up.
  bool IsDown(const record::Volume& row) {
    const std::optional<PathCount> paths = PathsOf(row.id);
    return IsRemote(row) && paths && paths->up == 0;
  }
  /// Queries the states of all paths in one call, without querying bdevs.
  absl::Status RefreshPaths(const base::Context& context) {
    return connections_.shared().RefreshControllers(context);
  }
  /// Same contract as SharedConnections::ReleaseLingering.
  absl::Status ReleaseLingering(const base::Context& context) {
    return connections_.shared().ReleaseLingering(context);
  }
  /// Notes the target's events about bdevs.
  void NoteEvents(const std::vector<spdk::BdevEvent>& events) {
    connections_.shared().NoteEvents(events);
  }
  /// Same contract as KnownBdevs::Note.
  void NoteBdev(uint64_t generation, const base::Uuid& volume,
                const std::optional<spdk::Bdev>& bdev) {
    connections_.shared().NoteBdev(generation, volume, bdev);
  }

 private:
  absl::Status ClearLimits(const base::Context& context, const record::Volume& row);
  absl::Status FindLocal(const base::Context& context, const record::Volume& row);
  void NoteLayer(const record::Volume& row);
  void ForgetLayer(const base::Uuid& volume);
  absl::StatusOr<VolumeParameters> SecretsOf(const record::Volume& row);

  const Options options_;
  jsonrpc::Caller& target_;
  record::Record& record_;
  Sealer sealer_;
  Connections connections_;
  Encryption encryption_;
  mutable base::Mutex layers_mutex_;
  // Encrypted volumes, by the UUID of their layer's bdev.
  std::map<base::Uuid, base::Uuid> layers_ SMA_GUARDED_BY(layers_mutex_);
};

}  // namespace sma::volume
