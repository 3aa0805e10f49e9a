// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "sma/crypto_engine.h"

namespace sma::crypto {

/// The engine of an agent without a configured crypto engine: rejects all encryption.
class NopEngine : public CryptoEngine {
 public:
  static constexpr std::string_view kName = "nop";

  std::string_view name() const override { return kName; }
  absl::Status Check(const CryptoParams& /*params*/) const override { return Refusal(); }
  OutcomeOr<std::string> Setup(const base::Context& /*context*/, const CryptoVolume& /*volume*/,
                               const CryptoParams& /*params*/) override {
    return Refusal();
  }
  absl::Status Verify(const base::Context& /*context*/, const CryptoVolume& /*volume*/,
                      const CryptoParams* params) override {
    return params == nullptr ? absl::OkStatus() : Refusal();
  }
  absl::Status Cleanup(const base::Context& /*context*/, const CryptoVolume& /*volume*/) override {
    return absl::OkStatus();
  }
  absl::StatusOr<std::optional<std::string>> GetCryptoBdev(
      const base::Context& /*context*/, const CryptoVolume& /*volume*/) override {
    return std::nullopt;
  }

 private:
  static absl::Status Refusal() {
    return absl::InvalidArgumentError("volume.crypto: no crypto engine is configured");
  }
};

}  // namespace sma::crypto
