// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "agent/record/rows.h"
#include "agent/spdk/bdev.h"
#include "agent/volume/request.h"
#include "agent/volume/sealer.h"
#include "base/context.h"
#include "jsonrpc/caller.h"
#include "sma/crypto_engine.h"

namespace sma::volume {

/// A volume that is to be adopted: see Encryption::Adopt.
struct Adoption {
  std::string exported;
  record::Volume* row;
  absl::Status status{};
};

/// Encrypts volumes with the configured engine: manages the layer between the bdev of a volume (its
/// base), which the caller connects first, and the device that exports it. For a volume that is not
/// encrypted the methods return immediately, without a remote call.
///
/// Errors are those of CryptoEngine; the outcome is unknown if something may be left on the target.
class Encryption {
 public:
  /// `target` and `sealer` must outlive this object. `late_action_time` has the same meaning as in
  /// Options.
  Encryption(std::chrono::nanoseconds late_action_time, jsonrpc::Caller& target,
             std::unique_ptr<CryptoEngine> engine, Sealer& sealer);

  std::string_view engine_name() const { return engine_->name(); }

  /// Returns INVALID_ARGUMENT if the engine does not support the requested encryption. Makes no
  /// remote call.
  absl::Status Check(const VolumeRequest& request) const;

  /// Encrypts the volume of `row` as `request` specifies, and sets `row.bdev_name` to the layer's
  /// name.
  Outcome Setup(const base::Context& context, const VolumeRequest& request, record::Volume& row);

  /// Like Setup, but in one batch with the device's calls (CryptoEngine::Plan). Sets the name of
  /// the bdev in `row` before the bdev exists. Returns null if Setup must be called instead.
  absl::StatusOr<std::unique_ptr<BdevPlan>> Plan(const base::Context& context,
                                                 const VolumeRequest& request, record::Volume& row);

  /// Returns true if, according to the record, the volume of `row` is encrypted exactly as
  /// `request` specifies; returns false also if the record does not contain enough information.
  /// Makes no remote call.
  bool MatchesRecord(const VolumeRequest& request, const record::Volume& row) const;

  /// Returns INVALID_ARGUMENT if the record shows that a repeated request for an attached volume
  /// has different encryption parameters. Makes no remote call.
  absl::Status CheckRepeated(const VolumeRequest& request, const record::Volume& row) const;

  /// Handles a repeated request for an attached volume: recreates a missing layer, and completes
  /// `row`. Returns INVALID_ARGUMENT if the volume is attached with different encryption
  /// parameters.
  absl::Status RepeatSetup(const base::Context& context, const VolumeRequest& request,
                           record::Volume& row);

  /// Adopts a volume that another agent attached and whose row does not say how it is encrypted.
  /// Compares `request` with the target, and completes `row`. `exported` is the name of the bdev
  /// that the volume's device exports; empty for the volume's own. Returns INVALID_ARGUMENT in the
  /// same cases as CryptoEngine::Verify, and FAILED_PRECONDITION if `exported` belongs to another
  /// volume.
  absl::Status VerifyAndAdopt(const base::Context& context, const VolumeRequest& request,
                              record::Volume& row, const std::string& exported = "");

  /// Like VerifyAndAdopt, but without a request: completes `row` according to how the volume is
  /// exported now, either directly or through a layer, whose keys are queried from the target.
  /// Returns NOT_FOUND if the volume is not exported; FAILED_PRECONDITION if `exported` belongs to
  /// another volume, or is encrypted in a way that the engine cannot restore. In these cases the
  /// volume must not be adopted.
  absl::Status Adopt(const base::Context& context, const std::string& exported,
                     record::Volume& row);
  /// Like Adopt, for many volumes in few round trips; sets the `status` of each.
  void AdoptAll(const base::Context& context, std::span<Adoption> adoptions);

  /// Recreates the layer of an encrypted volume if it is missing. Returns FAILED_PRECONDITION if
  /// that needs keys that are no longer known, NOT_FOUND if the base is missing. `may_export` is
  /// always set: it is false if the bdev with the layer's name is not, or may not be, the volume's
  /// layer.
  absl::Status Restore(const base::Context& context, record::Volume& row, bool& may_export);

  /// Returns false if a bdev with the layer's name exists but is not the volume's layer.
  absl::StatusOr<bool> IsExportable(const base::Context& context, record::Volume& row) {
    if (!row.params.has_crypto()) return true;
    absl::StatusOr<Layer> layer = FindLayer(context, row);
    if (!layer.ok()) return layer.status();
    return *layer != Layer::kWrong;
  }

  /// Returns the name of the bdev that a device exports for a volume whose attach did not finish:
  /// the layer's name if the layer exists, since the row may not have it yet.
  absl::StatusOr<std::string> FindBdevName(const base::Context& context, const record::Volume& row);

  /// Returns requests that begin the removal of the layer, which Cleanup finishes; returns none if
  /// the volume has no layer.
  std::vector<jsonrpc::Request> RemovalRequests(const record::Volume& row) const;

  /// Removes the layer, also if no engine is configured any more. Returns OK if it does not exist.
  absl::Status Cleanup(const base::Context& context, const record::Volume& row);

 private:
  enum class Layer {
    kMissing,
    kRight,  // on the volume's bdev and, if known, with its keys
    kWrong,
  };

  /// Returns the engine that finds and removes layers: without a configured engine, that which
  /// makes crypto bdevs, because the layer may be of an earlier configuration.
  CryptoEngine& removal_engine() const;
  absl::StatusOr<Layer> Compare(const base::Context& context, const record::Volume& row,
                                const std::string& name);
  /// Sets `row.bdev_name` if the right layer exists.
  absl::StatusOr<Layer> FindLayer(const base::Context& context, record::Volume& row);
  /// Notes the key of the layer in `row` if it was adopted.
  absl::Status NoteKey(const base::Context& context, record::Volume& row);
  Outcome CreateLayer(const base::Context& context, const crypto::VolumeKeys& keys,
                      record::Volume& row);
  Outcome RecreateLayer(const base::Context& context, const crypto::VolumeKeys& keys,
                        record::Volume& row);
  absl::Status AdoptLayer(const spdk::Bdev& layer, absl::StatusOr<jsonrpc::Json>& key,
                          record::Volume& row) const;
  absl::StatusOr<spdk::Bdev> FindExported(const base::Context& context, const std::string& exported,
                                          const record::Volume& row);
  absl::Status CheckKeys(const base::Context& context, const VolumeRequest& request,
                         const record::Volume& row);

  const std::chrono::nanoseconds late_action_time_;
  jsonrpc::Caller& target_;
  const std::unique_ptr<CryptoEngine> engine_;
  const std::unique_ptr<CryptoEngine> default_engine_;  // for layers of an earlier configuration
  Sealer& sealer_;
};

/// Returns the name or alias of the bdev of a volume, below its layer.
std::string BaseBdevName(const record::Volume& row);

}  // namespace sma::volume
