#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/crypto/crypto_attempt.h"
#include "jsonrpc/caller.h"
#include "sma/crypto_engine.h"

namespace sma::crypto {

/// Encrypts a volume by a crypto bdev of the target's over the volume's bdev, with names made from
/// the volume's id.
///
/// With the tweak mode SIMPLE_LBA the key is given along with the bdev, whose it then is: it goes
/// when the bdev goes, never before. The other modes need a key of its own on the target, which is
/// destroyed only when the bdev is known to be gone: SPDK frees it under a bdev that uses it.
class BdevCryptoEngine : public CryptoEngine {
 public:
  static constexpr std::string_view kName = "bdev_crypto";

  /// `target` outlives this. `driver`: what the target is told to encrypt with; empty: its choice.
  BdevCryptoEngine(jsonrpc::Caller& target, std::string driver)
      : target_(target), driver_(std::move(driver)) {}

  std::string_view name() const override { return kName; }
  absl::Status Check(const CryptoParams& params) const override;
  OutcomeOr<std::string> Setup(const base::Context& context, const CryptoVolume& volume,
                               const CryptoParams& params) override;
  absl::StatusOr<std::unique_ptr<BdevPlan>> Plan(const base::Context& context,
                                                 const CryptoVolume& volume,
                                                 const CryptoParams& params) override;
  absl::Status Verify(const base::Context& context, const CryptoVolume& volume,
                      const CryptoParams* params) override;
  absl::Status Cleanup(const base::Context& context, const CryptoVolume& volume) override;
  absl::StatusOr<std::optional<std::string>> GetCryptoBdev(const base::Context& context,
                                                           const CryptoVolume& volume) override;

  /// The name of the crypto bdev, and of a key of its own, of a volume.
  static std::string NameOf(const base::Uuid& volume_id);

 private:
  Attempt TryCreate(const base::Context& context, const CryptoVolume& volume,
                    const CryptoParams& params);
  absl::Status Awaken(const base::Context& context, const CryptoVolume& volume,
                      const CryptoParams& params);
  Outcome Undo(const CryptoVolume& volume, const Attempt& attempt, Outcome reason);
  absl::StatusOr<Found> Look(const base::Context& context, const CryptoVolume& volume,
                             const CryptoParams* params);
  absl::StatusOr<std::optional<std::string>> FindLayerToTakeOver(const base::Context& context,
                                                                 const CryptoVolume& volume,
                                                                 const CryptoParams& params);
  absl::StatusOr<std::optional<spdk::Bdev>> FindForeignLayer(const base::Context& context,
                                                             const spdk::Bdev& base);
  absl::Status DestroyKey(const base::Context& context, const std::string& name);

  jsonrpc::Caller& target_;
  const std::string driver_;
};

}  // namespace sma::crypto
