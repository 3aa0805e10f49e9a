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

/// What is on the target of a volume.
struct Found {
  std::optional<spdk::Bdev> base;
  std::optional<spdk::Bdev> layer;     // the crypto bdev
  std::optional<spdk::CryptoKey> key;  // of the name that was asked for
};

/// What came of the requests that make a crypto bdev, and what was there after them.
struct Attempt {
  absl::Status create_key;
  absl::Status create_bdev;
  absl::StatusOr<Found> found;
};

/// Whether the key is given along with the bdev, whose it then is.
bool IsInline(const CryptoParams& params);
std::string KeyNameOf(const std::string& bdev_name, const CryptoParams& params);

/// Of answers to GetBdev of the base and of the layer, and to GetCryptoKey; wipes the keys in them.
absl::StatusOr<Found> ParseFound(std::span<absl::StatusOr<jsonrpc::Json>> answers);

/// Requests that make the crypto bdev `name` on the bdev of `volume`, and then look at both.
std::vector<jsonrpc::Request> AttemptRequests(const std::string& name, const CryptoVolume& volume,
                                              const CryptoParams& params,
                                              const std::string& driver);
/// What came of them. Wipes the keys in both.
Attempt ParseAttempt(const CryptoParams& params, std::span<jsonrpc::Request> sent,
                     std::span<absl::StatusOr<jsonrpc::Json>> answers);

/// Whether what `attempt` has left on the target is what was to be made; if not, why.
absl::Status Judge(const CryptoVolume& volume, const CryptoParams& params, const Attempt& attempt);
/// A crypto bdev of an earlier time, with its key, is there: it comes back when its base comes
/// back.
bool IsStale(const Attempt& attempt);
/// Its name is taken, or that of the key that goes with it, though it is not there.
bool IsDormant(const Attempt& attempt);

/// Whether the layer is on this base.
bool IsOnBase(const spdk::Bdev& layer, const std::optional<spdk::Bdev>& base);
/// INVALID_ARGUMENT: `key` differs from `params`.
absl::Status CompareKeys(const spdk::CryptoKey& key, const CryptoParams& params);
/// INVALID_ARGUMENT. `field`: of volume.crypto, with a dot before it; empty: the whole.
absl::Status OtherThanInUse(const char* field);
absl::Status VolumeError(absl::StatusCode code, const CryptoVolume& volume, std::string_view what);

/// An attempt that is made along with the calls of the device that exports the volume.
class CryptoBdevPlan : public BdevPlan {
 public:
  using UndoAttempt = std::function<Outcome(const Attempt& attempt, Outcome reason)>;

  /// `params` views keys that outlive this; `requests` are AttemptRequests of it.
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
  std::vector<jsonrpc::Request> requests_;  // until they are taken
  const UndoAttempt undo_;
  std::optional<Attempt> attempt_;
};

}  // namespace sma::crypto
