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

/// Whether `crypto` names an engine that is built in.
bool IsBuiltInEngine(const config::Crypto& crypto);

/// FAILED_PRECONDITION, with the place in the configuration: the built-in engine does not take
/// these parameters.
absl::Status CheckEngineParams(const config::Crypto& crypto);

/// The built-in engine that `crypto` names, which was checked. `target` outlives it.
std::unique_ptr<CryptoEngine> MakeBuiltInEngine(const config::Crypto& crypto,
                                                jsonrpc::Caller& target);

/// Reads the key that seals what the record keeps; nullopt where none is configured. Before other
/// threads start. FAILED_PRECONDITION: it cannot be read, or is none.
absl::StatusOr<std::optional<base::Secret>> LoadSealingKey(const config::SealingKey& key);

}  // namespace sma::apps
