// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/config/config.h"
#include "base/secret.h"
#include "jsonrpc/caller.h"
#include "sma/crypto_engine.h"

namespace sma::apps {

/// Returns true if `crypto` names a built-in engine.
bool IsBuiltInEngine(const config::Crypto& crypto);

/// Checks the parameters of a built-in engine. Returns FAILED_PRECONDITION, with the place in the
/// configuration, if the engine does not accept them.
absl::Status CheckEngineParams(const config::Crypto& crypto);

/// Creates the built-in engine that `crypto` names. The parameters must have passed
/// CheckEngineParams. `target` must outlive the engine.
std::unique_ptr<CryptoEngine> MakeBuiltInEngine(const config::Crypto& crypto,
                                                jsonrpc::Caller& target);

/// Reads the key that seals volumes' keys in the record; nullopt if none is configured. Must be
/// called before other threads start. Returns FAILED_PRECONDITION if the key cannot be read or is
/// invalid.
absl::StatusOr<std::optional<base::Secret>> LoadSealingKey(const config::SealingKey& key);

}  // namespace sma::apps
