// SPDX-License-Identifier: Apache-2.0

#include "sma/encryption.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "agent/crypto/bdev_crypto_engine.h"
#include "agent/crypto/nop_engine.h"
#include "agent/crypto/sealing_key.h"

namespace sma::apps {
namespace {

constexpr char kDriver[] = "driver";

}  // namespace

bool IsBuiltInEngine(const config::Crypto& crypto) {
  return crypto.engine == crypto::NopEngine::kName ||
         crypto.engine == crypto::BdevCryptoEngine::kName;
}

absl::Status CheckEngineParams(const config::Crypto& crypto) {
  for (const auto& [name, value] : crypto.params.items()) {
    bool is_known = crypto.engine == crypto::BdevCryptoEngine::kName && name == kDriver;
    if (is_known && value.is_string()) continue;
    return absl::FailedPreconditionError(
        fmt::format("{}: crypto engine '{}': {} '{}'", crypto.location, crypto.engine,
                    is_known ? "not a string:" : "unknown parameter", name));
  }
  return absl::OkStatus();
}

std::unique_ptr<CryptoEngine> MakeBuiltInEngine(const config::Crypto& crypto,
                                                jsonrpc::Caller& target) {
  if (crypto.engine == crypto::NopEngine::kName) return std::make_unique<crypto::NopEngine>();
  return std::make_unique<crypto::BdevCryptoEngine>(target,
                                                    crypto.params.value(kDriver, std::string()));
}

absl::StatusOr<std::optional<base::Secret>> LoadSealingKey(const config::SealingKey& key) {
  using Source = config::SealingKey::Source;
  absl::StatusOr<base::Secret> secret = absl::NotFoundError("");
  switch (key.source) {
    case Source::kNone:
      return std::nullopt;
    case Source::kFile:
      secret = crypto::SealingKeyFromFile(key.name);
      break;
    case Source::kCredential:
      secret = crypto::SealingKeyFromCredential(key.name);
      break;
    case Source::kEnvironment:
      secret = crypto::SealingKeyFromEnvironment(key.name);
      break;
  }
  if (!secret.ok()) return secret.status();
  return std::optional(*std::move(secret));
}

}  // namespace sma::apps
