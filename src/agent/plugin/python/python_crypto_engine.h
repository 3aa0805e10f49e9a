// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/plugin/python/call.h"
#include "sma/crypto_engine.h"

namespace sma::python {

/// A crypto engine implemented by a Python class. Keys become strings of the interpreter, which are
/// not wiped.
class PythonCryptoEngine : public CryptoEngine {
 public:
  /// Calls the plugin's `init` with `params` and returns its error, if any.
  static absl::StatusOr<std::unique_ptr<CryptoEngine>> Make(PluginObject object,
                                                            const nlohmann::json& params);

  std::string_view name() const override { return object_.name(); }
  absl::Status Check(const CryptoParams& params) const override;
  OutcomeOr<std::string> Setup(const base::Context& context, const CryptoVolume& volume,
                               const CryptoParams& params) override;
  absl::Status Verify(const base::Context& context, const CryptoVolume& volume,
                      const CryptoParams* params) override;
  absl::Status Cleanup(const base::Context& context, const CryptoVolume& volume) override;
  absl::StatusOr<std::optional<std::string>> GetCryptoBdev(const base::Context& context,
                                                           const CryptoVolume& volume) override;

 private:
  explicit PythonCryptoEngine(PluginObject object) : object_(std::move(object)) {}

  const PluginObject object_;
};

}  // namespace sma::python
