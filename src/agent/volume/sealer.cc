// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/sealer.h"

#include <endian.h>
#include <fmt/format.h>

#include <cstring>
#include <string_view>
#include <utility>

#include "agent/volume/request.h"

namespace sma::volume {

using base::MutexLock;

namespace {

// The format in the record: the size of the first part (little-endian), the keys in the KeyVault's
// format, and the connection's secrets in the KeyVault's format.
struct Parts {
  std::string_view keys{};
  std::string_view secrets{};
};

constexpr size_t kSizeBytes = sizeof(uint32_t);

std::string Join(const std::string& keys, const std::string& secrets) {
  if (keys.empty() && secrets.empty()) return {};
  uint32_t size = htole32(static_cast<uint32_t>(keys.size()));
  std::string joined(reinterpret_cast<const char*>(&size), kSizeBytes);
  return joined.append(keys).append(secrets);
}

Parts Split(std::string_view sealed) {
  uint32_t size = 0;
  if (sealed.size() < kSizeBytes) return {};
  std::memcpy(&size, sealed.data(), kSizeBytes);
  size = le32toh(size);
  sealed.remove_prefix(kSizeBytes);
  if (size > sealed.size()) return {};
  return {.keys = sealed.substr(0, size), .secrets = sealed.substr(size)};
}

}  // namespace

std::string Sealer::Seal(const base::Uuid& id, const VolumeParameters& secrets,
                         const crypto::VolumeKeys* keys) {
  std::string kept_keys;
  std::string kept_secrets;
  if (keys != nullptr) kept_keys = vault_.Keep(id, keys->secret());
  if (HasSecrets(secrets) && vault_.can_recover()) {
    std::string text = secrets.SerializeAsString();
    kept_secrets = vault_.Keep(id, text);
    base::WipeString(text);
  } else if (HasSecrets(secrets)) {
    MutexLock lock(mutex_);
    secrets_[id] = secrets;
  }
  return Join(kept_keys, kept_secrets);
}

absl::StatusOr<VolumeParameters> Sealer::Open(const base::Uuid& id, const std::string& sealed) {
  {
    MutexLock lock(mutex_);
    auto found = secrets_.find(id);
    if (found != secrets_.end()) return found->second;
  }
  const std::string_view kept = Split(sealed).secrets;
  if (kept.empty()) {
    return absl::FailedPreconditionError(fmt::format(
        "volume {}: its secrets were lost when the agent was restarted: attach it again",
        id.ToString()));
  }
  absl::StatusOr<base::Secret> text = vault_.Recover(id, kept);
  if (!text.ok()) return text.status();
  VolumeParameters secrets;
  if (!secrets.ParseFromArray(text->data(), static_cast<int>(text->size()))) {
    return absl::DataLossError(
        fmt::format("volume {}: its secrets in the record are damaged", id.ToString()));
  }
  return secrets;
}

void Sealer::Forget(const base::Uuid& id) {
  MutexLock lock(mutex_);
  secrets_.erase(id);
}

bool Sealer::HasKeys(const std::string& sealed) { return !Split(sealed).keys.empty(); }

bool Sealer::SameKeys(const base::Uuid& id, const std::string& sealed,
                      const crypto::VolumeKeys& keys) {
  return crypto::KeyVault::Matches(id, Split(sealed).keys, keys.secret());
}

absl::StatusOr<crypto::VolumeKeys> Sealer::OpenKeys(const base::Uuid& id, const std::string& sealed,
                                                    const VolumeCryptoParameters& params) const {
  absl::StatusOr<base::Secret> secret = vault_.Recover(id, Split(sealed).keys);
  if (!secret.ok()) return secret.status();
  return crypto::VolumeKeys::FromSecret(params, secret->bytes());
}

bool Sealer::ShouldReseal(const base::Uuid& id, const std::string& sealed) const {
  return !HasKeys(sealed) || (vault_.can_recover() && !vault_.Recover(id, Split(sealed).keys).ok());
}

}  // namespace sma::volume
