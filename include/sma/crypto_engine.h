// SPDX-License-Identifier: Apache-2.0

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

/// Parameters of a volume's encryption. The keys are views of memory that is wiped after the call:
/// an engine must not store them, log them or put them into an error message.
struct CryptoParams {
  VolumeCryptoParameters::Cipher cipher = VolumeCryptoParameters::AES_CBC;
  VolumeCryptoParameters::TweakMode tweak_mode = VolumeCryptoParameters::TWEAK_MODE_SIMPLE_LBA;
  std::string_view key{};   // lower-case hexadecimal digits, an even number, not empty
  std::string_view key2{};  // the same; empty: there is no second key
};

/// A volume as a crypto engine sees it.
struct CryptoVolume {
  base::Uuid id;
  std::string bdev_name;  // name or alias of the bdev to encrypt; it exists on the target
  std::string layer{};    // the result of Setup or GetCryptoBdev; empty if unknown
  std::string key{};      // the key of a layer that was adopted; empty if it was not, or is unknown
};

/// Encrypts volumes on the target. The agent uses one engine: the one that `crypto` names in the
/// configuration, created with the `params` given there. An engine keeps no state that must outlive
/// the process; the names of its objects on the target must allow it to find them after a restart.
///
/// Thread-safe; the agent never makes two calls for the same volume concurrently. Methods with a
/// context block until they have finished or the context ends.
///
/// Errors: a call that fails has rolled back its own changes and nothing else. If it cannot roll
/// back, or cannot find out what the target did, the outcome is unknown (Outcome::Unknown) and the
/// agent calls Cleanup later. UNAVAILABLE: the target cannot be reached.
class CryptoEngine {
 public:
  virtual ~CryptoEngine() = default;

  /// Returns the engine's name in the configuration, for example "bdev_crypto".
  virtual std::string_view name() const = 0;

  /// Returns OK if volumes can be encrypted with these parameters, otherwise INVALID_ARGUMENT.
  /// Makes no remote call.
  virtual absl::Status Check(const CryptoParams& params) const = 0;

  /// Encrypts `volume` with `params`, which Check has accepted, and returns the name of the bdev
  /// through which the volume must be used (the volume's own bdev if the engine creates none). On
  /// success that bdev exists on the target, on this volume and with exactly these keys; a bdev
  /// that existed before with another key was recreated. Returns ALREADY_EXISTS if the volume's
  /// bdev is in use by something else, and NOT_FOUND if it does not exist on the target.
  virtual OutcomeOr<std::string> Setup(const base::Context& context, const CryptoVolume& volume,
                                       const CryptoParams& params) = 0;

  /// Prepares a Setup whose requests are sent together with those that export the volume: queries
  /// the target and, if nothing conflicts, returns the requests that Setup would send. Returns null
  /// if these requests are not enough and Setup must be called instead. The keys in `params` must
  /// outlive the plan. Returns UNAVAILABLE if the target cannot be reached.
  virtual absl::StatusOr<std::unique_ptr<BdevPlan>> Plan(const base::Context& /*context*/,
                                                         const CryptoVolume& /*volume*/,
                                                         const CryptoParams& /*params*/) {
    return nullptr;
  }

  /// Compares the encryption of `volume` on the target with `params`; if `params` is null, the
  /// volume must not be encrypted. Returns INVALID_ARGUMENT if the cipher, a key or the tweak mode
  /// differs, if only one side has a second key, or if only one side is encrypted. Changes nothing.
  virtual absl::Status Verify(const base::Context& context, const CryptoVolume& volume,
                              const CryptoParams* params) = 0;

  /// Removes the encryption of `volume`: the crypto bdev, and the keys from the target's memory.
  /// Called before the volume's own bdev is removed. Idempotent.
  virtual absl::Status Cleanup(const base::Context& context, const CryptoVolume& volume) = 0;

  /// Returns the name of the bdev that Setup created, if it exists on the target; nullopt if the
  /// volume is not encrypted.
  virtual absl::StatusOr<std::optional<std::string>> GetCryptoBdev(const base::Context& context,
                                                                   const CryptoVolume& volume) = 0;
};

}  // namespace sma
