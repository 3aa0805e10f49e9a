// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/crypto/crypto_attempt.h"
#include "jsonrpc/caller.h"
#include "sma/crypto_engine.h"

namespace sma::crypto {

/// Encrypts a volume with a crypto bdev that the target creates on top of the volume's bdev. Names
/// are derived from the volume's id.
///
/// With the tweak mode SIMPLE_LBA the key is created inline with the bdev, which owns it: it is
/// deleted together with the bdev and never before it. The other modes need a separate key on the
/// target, which is destroyed only when the bdev is known not to exist, because SPDK frees a key
/// even if a bdev uses it.
class BdevCryptoEngine : public CryptoEngine {
 public:
  static constexpr std::string_view kName = "bdev_crypto";

  /// `target` must outlive this object. `driver` is the crypto driver of new bdevs; if it is empty,
  /// the target's default is used.
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

  /// Returns the name shared by a volume's crypto bdev and its separate key.
  static std::string NameOf(const base::Uuid& volume_id);

 private:
  Attempt TryCreate(const base::Context& context, const CryptoVolume& volume,
                    const CryptoParams& params);
  absl::Status DeleteDormant(const base::Context& context, const CryptoVolume& volume,
                             const CryptoParams& params);
  Outcome Undo(const CryptoVolume& volume, const Attempt& attempt, Outcome reason);
  absl::StatusOr<Found> Query(const base::Context& context, const CryptoVolume& volume,
                              const CryptoParams* params);
  absl::StatusOr<std::optional<std::string>> FindLayerToAdopt(const base::Context& context,
                                                              const CryptoVolume& volume,
                                                              const CryptoParams& params);
  absl::StatusOr<std::optional<spdk::Bdev>> FindForeignLayer(const base::Context& context,
                                                             const spdk::Bdev& base);
  absl::Status DestroyUnusedKey(const base::Context& context, const CryptoVolume& volume,
                                const std::string& name, const std::string& key);
  absl::Status CleanupAdopted(const base::Context& context, const CryptoVolume& volume);
  absl::Status DestroyKey(const base::Context& context, const std::string& name);

  jsonrpc::Caller& target_;
  const std::string driver_;
};

}  // namespace sma::crypto
