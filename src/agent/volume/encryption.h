#pragma once

#include <memory>
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

/// The layer that encrypts volumes, by the engine that is configured: between the bdev of a volume
/// (its base), which is made sure of before, and the device that exports it. A row that is not
/// encrypted passes through without a remote call.
///
/// Errors as of CryptoEngine; the outcome is unknown where something may be left on the target.
class Encryption {
 public:
  /// `target` and `sealer` outlive this.
  Encryption(jsonrpc::Caller& target, std::unique_ptr<CryptoEngine> engine, Sealer& sealer)
      : target_(target), engine_(std::move(engine)), sealer_(sealer) {}

  std::string_view engine_name() const { return engine_->name(); }

  /// No remote call. INVALID_ARGUMENT: the engine does not encrypt like this.
  absl::Status Check(const VolumeRequest& request) const;

  /// Encrypts the volume of `row` as `request` asks for; its bdev_name is then that of the layer.
  Outcome Setup(const base::Context& context, const VolumeRequest& request, record::Volume& row);

  /// The same along with the calls of the device, CryptoEngine::Plan: `row` names the bdev that
  /// will be there. Null: Setup has to be called.
  absl::StatusOr<std::unique_ptr<BdevPlan>> Plan(const base::Context& context,
                                                 const VolumeRequest& request, record::Volume& row);

  /// Whether `request` asks for just the encryption that the volume of `row` has by the record.
  /// False also where the record does not have all of it. No remote call.
  bool IsKnownSame(const VolumeRequest& request, const record::Volume& row) const;

  /// An attached volume is asked for again: makes sure that it is encrypted, and fills in of `row`
  /// what was not known. INVALID_ARGUMENT: it is encrypted, or not, with other parameters.
  absl::Status SetupAgain(const base::Context& context, const VolumeRequest& request,
                          record::Volume& row);

  /// A volume that another agent has attached: its row does not say how it is encrypted. Compares
  /// `request` with the target, and fills in of `row` what it tells. `exported`: the name of the
  /// bdev that its device exports; empty: the volume's own. INVALID_ARGUMENT: as
  /// CryptoEngine::Verify. FAILED_PRECONDITION: `exported` is another volume's.
  absl::Status TakeOver(const base::Context& context, const VolumeRequest& request,
                        record::Volume& row, const std::string& exported = "");

  /// The same when nobody says how the volume should be encrypted: `row` is then as the volume is
  /// exported now, in clear, or through a layer, whose keys the target tells. NOT_FOUND: it is not
  /// exported. FAILED_PRECONDITION: `exported` is another volume's, or encrypted in a way that the
  /// engine cannot restore; then it must not be adopted.
  absl::Status Adopt(const base::Context& context, const std::string& exported,
                     record::Volume& row);

  /// Makes sure that the volume of a row is encrypted. FAILED_PRECONDITION: it is not, and its keys
  /// are not known any more. NOT_FOUND: its base is not there.
  absl::Status Restore(const base::Context& context, record::Volume& row);

  /// The name of the bdev that a device exports of a volume whose attach was not finished: that of
  /// the layer if there is one, as the row may not have it yet.
  absl::StatusOr<std::string> FindBdevName(const base::Context& context, const record::Volume& row);

  /// Requests that begin the removal of the layer, for Cleanup to finish; none if there is none.
  std::vector<jsonrpc::Request> RemovalRequests(const record::Volume& row) const;

  /// Takes the layer away. OK when it is not there.
  absl::Status Cleanup(const base::Context& context, const record::Volume& row);

 private:
  Outcome Make(const base::Context& context, const crypto::VolumeKeys& keys, record::Volume& row);
  absl::StatusOr<spdk::Bdev> FindExported(const base::Context& context, const std::string& exported,
                                          const record::Volume& row);
  absl::Status CheckKeys(const base::Context& context, const VolumeRequest& request,
                         const record::Volume& row);

  jsonrpc::Caller& target_;
  const std::unique_ptr<CryptoEngine> engine_;
  Sealer& sealer_;
};

/// Name or alias of the bdev of a volume, without layers.
std::string BaseBdevName(const record::Volume& row);

}  // namespace sma::volume
