#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/uuid.h"
#include "sma.pb.h"
#include "sma/bdev_plan.h"
#include "sma/outcome.h"

namespace sma {

/// How a volume is to be encrypted. The keys are views of memory that is wiped after the call:
/// never kept, logged or put into an error.
struct CryptoParams {
  VolumeCryptoParameters::Cipher cipher = VolumeCryptoParameters::AES_CBC;
  VolumeCryptoParameters::TweakMode tweak_mode = VolumeCryptoParameters::TWEAK_MODE_SIMPLE_LBA;
  std::string_view key{};   // lower-case hex digits, an even number, not none
  std::string_view key2{};  // the same; empty: there is none
};

/// A volume as a crypto engine sees it.
struct CryptoVolume {
  base::Uuid id;
  std::string bdev_name;  // name or alias of the bdev to encrypt, which is on the target
  std::string layer{};    // what Setup or GetCryptoBdev has given for it; empty: not known
};

/// Encrypts volumes on the target. One engine serves the agent: the one that `crypto` names in the
/// configuration, made with the `params` given there. It keeps nothing that has to outlive the
/// process, and makes names that it can find again after a restart.
///
/// All methods may be called from many threads at once, but never two for one volume. Those with a
/// context block, for as long as it allows.
///
/// Errors. A call that fails has undone what it did, and only that. Where it cannot, or cannot find
/// out what the target did, the outcome is unknown (Outcome::Unknown) and the agent calls Cleanup
/// later. Target not reachable: UNAVAILABLE.
class CryptoEngine {
 public:
  virtual ~CryptoEngine() = default;

  /// The name in the configuration: "bdev_crypto", say.
  virtual std::string_view name() const = 0;

  /// Whether a volume can be encrypted like this. No remote call. INVALID_ARGUMENT.
  virtual absl::Status Check(const CryptoParams& params) const = 0;

  /// Encrypts `volume` with `params`, which Check has accepted, and gives the name of the bdev
  /// through which it is to be used (that of the volume itself where the engine makes no other).
  /// When it returns, that bdev is on the target, on this volume and with these very keys, whatever
  /// was there before: one that has come back with an older key is made anew. ALREADY_EXISTS: the
  /// volume's bdev is in use by something else. NOT_FOUND: it is not on the target.
  virtual OutcomeOr<std::string> Setup(const base::Context& context, const CryptoVolume& volume,
                                       const CryptoParams& params) = 0;

  /// Setup, to be done in one go with the calls that export the volume: looks at the target, and
  /// where nothing is in the way of Setup gives what it would send. Null: Setup has to be called,
  /// which has more means. The keys in `params` outlive the plan. UNAVAILABLE.
  virtual absl::StatusOr<std::unique_ptr<BdevPlan>> Plan(const base::Context& /*context*/,
                                                         const CryptoVolume& /*volume*/,
                                                         const CryptoParams& /*params*/) {
    return nullptr;
  }

  /// Compares what `volume` is encrypted with on the target; `params` null: it must be clear.
  /// INVALID_ARGUMENT: the cipher, a key or the tweak mode differs, one side has a second key, or
  /// is clear, and the other not. Changes nothing.
  virtual absl::Status Verify(const base::Context& context, const CryptoVolume& volume,
                              const CryptoParams* params) = 0;

  /// Takes the encryption of `volume` away: its bdev, and its keys from the target's memory. Called
  /// before the volume's own bdev goes. OK when there is none.
  virtual absl::Status Cleanup(const base::Context& context, const CryptoVolume& volume) = 0;

  /// The name of the bdev that Setup has given, if it is on the target; nullopt: the volume is
  /// clear.
  virtual absl::StatusOr<std::optional<std::string>> GetCryptoBdev(const base::Context& context,
                                                                   const CryptoVolume& volume) = 0;
};

}  // namespace sma
