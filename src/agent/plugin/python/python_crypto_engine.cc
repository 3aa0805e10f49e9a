// SPDX-License-Identifier: Apache-2.0

#include "agent/plugin/python/python_crypto_engine.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

namespace sma::python {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kEngineInitTime{30};

// Returns the arguments of `setup` and `verify` as JSON.
std::string Arguments(const CryptoVolume& volume, const CryptoParams* params) {
  json arguments = {volume.id.ToString(), nullptr, nullptr, nullptr, nullptr};
  if (params != nullptr) {
    arguments[1] = params->key;
    arguments[2] = static_cast<int>(params->cipher);
    if (!params->key2.empty()) arguments[3] = params->key2;
    arguments[4] = static_cast<int>(params->tweak_mode);
  }
  return arguments.dump();
}

DeviceVolume VolumeOfCall(const CryptoVolume& volume) {
  DeviceVolume of_call;
  of_call.id = volume.id;
  of_call.bdev_name = volume.bdev_name;
  return of_call;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CryptoEngine>> PythonCryptoEngine::Make(PluginObject object,
                                                                       const json& params) {
  absl::Status status =
      object.Run(base::Context::WithTimeout(kEngineInitTime), "init_engine", params.dump())
          .status();
  if (!status.ok()) return status;
  return std::unique_ptr<CryptoEngine>(new PythonCryptoEngine(std::move(object)));
}

// Plugins check the parameters in Setup.
absl::Status PythonCryptoEngine::Check(const CryptoParams& /*params*/) const {
  return absl::OkStatus();
}

OutcomeOr<std::string> PythonCryptoEngine::Setup(const base::Context& context,
                                                 const CryptoVolume& volume,
                                                 const CryptoParams& params) {
  absl::Status status =
      object_.Run(context, "setup", Arguments(volume, &params), {}, VolumeOfCall(volume)).status();
  if (!status.ok()) return status;
  absl::StatusOr<std::optional<std::string>> bdev = GetCryptoBdev(context, volume);
  if (!bdev.ok()) return bdev.status();
  if (*bdev) return **bdev;
  return absl::InternalError(
      fmt::format("{}: setup created no crypto bdev for volume {}", name(), volume.id.ToString()));
}

absl::Status PythonCryptoEngine::Verify(const base::Context& context, const CryptoVolume& volume,
                                        const CryptoParams* params) {
  return object_.Run(context, "verify", Arguments(volume, params), {}, VolumeOfCall(volume))
      .status();
}

absl::Status PythonCryptoEngine::Cleanup(const base::Context& context, const CryptoVolume& volume) {
  return object_.Run(context, "cleanup", volume.id.ToString(), {}, VolumeOfCall(volume)).status();
}

absl::StatusOr<std::optional<std::string>> PythonCryptoEngine::GetCryptoBdev(
    const base::Context& context, const CryptoVolume& volume) {
  auto answer =
      object_.Run(context, "get_crypto_bdev", volume.id.ToString(), {}, VolumeOfCall(volume));
  if (!answer.ok()) return answer.status();
  if (answer->empty()) return std::nullopt;
  return *answer;
}

}  // namespace sma::python
