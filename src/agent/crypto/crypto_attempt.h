// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "agent/spdk/crypto.h"
#include "jsonrpc/caller.h"
#include "sma/bdev_plan.h"
#include "sma/crypto_engine.h"
#include "sma/outcome.h"

namespace sma::crypto {

/// The objects of a volume on the target.
struct Found {
  std::optional<spdk::Bdev> base;
  std::optional<spdk::Bdev> layer;     // the crypto bdev
  std::optional<spdk::CryptoKey> key;  // the key with the requested name
};

/// The results of the requests that create a crypto bdev, and the state after them.
struct Attempt {
  absl::Status create_key;
  absl::Status create_bdev;
  absl::StatusOr<Found> found;
};

/// Returns true if the key is created inline with the bdev, which then owns it.
bool IsInline(const CryptoParams& params);
std::string KeyNameOf(const std::string& bdev_name, const CryptoParams& params);

/// Parses the answers to GetBdev of the base, GetBdev of the layer, and GetCryptoKey; wipes their
/// keys.
absl::StatusOr<Found> ParseFound(std::span<absl::StatusOr<jsonrpc::Json>> answers);

/// Returns the requests that create the crypto bdev `name` on the bdev of `volume` and then query
/// both bdevs and the key.
std::vector<jsonrpc::Request> AttemptRequests(const std::string& name, const CryptoVolume& volume,
                                              const CryptoParams& params,
                                              const std::string& driver);
/// Parses the answers to AttemptRequests(). Wipes the keys in both `sent` and `answers`.
Attempt ParseAttempt(const CryptoParams& params, std::span<jsonrpc::Request> sent,
                     std::span<absl::StatusOr<jsonrpc::Json>> answers);

/// Returns OK if the objects that `attempt` left on the target are the requested ones; otherwise
/// the reason.
absl::Status CheckAttempt(const CryptoVolume& volume, const CryptoParams& params,
                          const Attempt& attempt);
/// Returns true if an older crypto bdev with its old key exists, because it reappeared with its
/// base.
bool IsStale(const Attempt& attempt);
/// Returns true if the name of the crypto bdev, or of its inline key, is taken although the bdev
/// does not exist.
bool IsDormant(const Attempt& attempt);

/// Returns true if `layer` is stacked on `base`.
bool IsOnBase(const spdk::Bdev& layer, const std::optional<spdk::Bdev>& base);
/// Returns INVALID_ARGUMENT if `key` differs from `params`.
absl::Status CompareKeys(const spdk::CryptoKey& key, const CryptoParams& params);
/// Returns INVALID_ARGUMENT for `field`, a field of volume.crypto with a leading dot, or for
/// volume.crypto itself if `field` is empty.
absl::Status KeyMismatchError(const char* field);
absl::Status VolumeError(absl::StatusCode code, const CryptoVolume& volume, std::string_view what);

/// An attempt whose requests are sent together with those of the device that exports the volume.
class CryptoBdevPlan : public BdevPlan {
 public:
  using UndoAttempt = std::function<Outcome(const Attempt& attempt, Outcome reason)>;

  /// `params` refers to keys that must outlive this object; `requests` are its AttemptRequests().
  CryptoBdevPlan(std::string name, CryptoVolume volume, const CryptoParams& params,
                 std::vector<jsonrpc::Request> requests, UndoAttempt undo)
      : name_(std::move(name)),
        volume_(std::move(volume)),
        params_(params),
        requests_(std::move(requests)),
        undo_(std::move(undo)) {}
  ~CryptoBdevPlan() override;

  const std::string& bdev_name() const override { return name_; }
  std::vector<jsonrpc::Request> TakeRequests() override { return std::exchange(requests_, {}); }
  Outcome CheckResults(std::span<jsonrpc::Request> sent,
                       std::span<absl::StatusOr<jsonrpc::Json>> answers) override;
  Outcome Undo(Outcome reason) override;

 private:
  const std::string name_;
  const CryptoVolume volume_;
  const CryptoParams params_;
  std::vector<jsonrpc::Request> requests_;  // empty once they are taken
  const UndoAttempt undo_;
  std::optional<Attempt> attempt_;
};

}  // namespace sma::crypto
