// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/spdk/json_read.h"
#include "agent/spdk/testing/fake_target.h"
#include "base/hex.h"
#include "base/uuid.h"
#include "jsonrpc/error.h"

namespace sma::spdk {

using base::MutexLock;
using jsonrpc::Json;

namespace {

// SPDK's namespace UUID for the UUIDs of crypto bdevs.
constexpr char kUuidNameSpace[] = "078e3cf7-f4b4-4545-b2c3-d40045a64ae2";

bool IsAesKey(const std::string& digits) {
  std::optional<std::string> bytes = base::HexDecode(digits);
  return bytes && (bytes->size() == 16 || bytes->size() == 32);
}

}  // namespace

// Also accepts AES_CBC, as SPDK does with some of its drivers.
FakeTarget::Answer FakeTarget::CreateCryptoKey(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  const std::string cipher = StringMember(params, "cipher").value_or("");
  const std::string key = StringMember(params, "key").value_or("");
  const std::string key2 = StringMember(params, "key2").value_or("");
  if (cipher != "AES_XTS" && cipher != "AES_CBC") {
    return FakeError(jsonrpc::kParseError, "spdk_json_decode_object failed");
  }
  if (crypto_keys_.contains(name)) {
    return FakeError(jsonrpc::kInvalidParams, "failed to create DEK, rc -17");
  }
  bool has_key2 = cipher == "AES_XTS";
  if (!IsAesKey(key) || (has_key2 ? !IsAesKey(key2) || key2 == key : !key2.empty())) {
    return FakeError(jsonrpc::kInvalidParams, "failed to create DEK, rc -22");
  }
  Json entry{{"name", name},
             {"cipher", cipher},
             {"key", key},
             {"tweak_mode", StringMember(params, "tweak_mode").value_or("SIMPLE_LBA")}};
  if (has_key2) entry["key2"] = key2;
  crypto_keys_[name] = std::move(entry);
  return true;
}

FakeTarget::Answer FakeTarget::GetCryptoKeys(const Json& params) {
  std::optional<std::string> name = StringMember(params, "key_name");
  if (name && !crypto_keys_.contains(*name)) {
    return FakeError(jsonrpc::kInvalidParams, "key was not found");
  }
  Json keys = Json::array();
  for (const auto& [other, key] : crypto_keys_) {
    if (!name || *name == other) keys.push_back(key);
  }
  return keys;
}

FakeTarget::Answer FakeTarget::DestroyCryptoKey(const Json& params) {
  const std::string name = StringMember(params, "key_name").value_or("");
  if (crypto_keys_.erase(name) == 0) {
    return FakeError(jsonrpc::kInvalidParams, "No key object found");
  }
  if (std::any_of(crypto_names_.begin(), crypto_names_.end(),
                  [&](const CryptoName& user) { return user.key_name == name; })) {
    ++keys_destroyed_in_use_;
  }
  return true;
}

FakeTarget::Answer FakeTarget::CreateCryptoBdev(const Json& params) {
  CryptoName entry{.name = StringMember(params, "name").value_or(""),
                   .base_name = StringMember(params, "base_bdev_name").value_or(""),
                   .key_name = StringMember(params, "key_name").value_or("")};
  if (entry.name.empty() || entry.base_name.empty()) return FakeDecodeFailed();
  entry.owns_key = entry.key_name.empty();
  if (entry.owns_key) {
    const std::string cipher = StringMember(params, "cipher").value_or("");
    entry.key_name = entry.name + "_" + cipher;
    Json key = params;
    key["name"] = entry.key_name;
    key.erase("tweak_mode");
    if (!CreateCryptoKey(key).ok()) return FakeError(jsonrpc::kInternalError, "No key was found");
    crypto_keys_[entry.key_name].erase("tweak_mode");
  } else if (!crypto_keys_.contains(entry.key_name)) {
    return FakeError(jsonrpc::kInvalidParams, "Key was not found");
  }
  bool taken = std::any_of(crypto_names_.begin(), crypto_names_.end(),
                           [&](const CryptoName& other) { return other.name == entry.name; });
  absl::Status status = taken ? FakeError(-EEXIST, "File exists") : absl::OkStatus();
  if (status.ok()) {
    crypto_names_.push_back(entry);
    status = MakeCryptoBdevs(entry.base_name);
    if (!status.ok()) crypto_names_.pop_back();
  }
  if (status.ok()) return entry.name;
  if (entry.owns_key) crypto_keys_.erase(entry.key_name);
  return status;
}

// Creates all crypto bdevs that were requested for this base name, in the order of the requests. As
// in SPDK, those requested while the base was missing come first. Returns OK if the base does not
// exist.
absl::Status FakeTarget::MakeCryptoBdevs(const std::string& base_name) {
  for (const CryptoName& entry : crypto_names_) {
    if (entry.base_name != base_name || bdevs_.contains(entry.name)) continue;
    Bdev* base = FindBdev(base_name);
    if (base == nullptr) return absl::OkStatus();
    if (base->claimed) return FakeError(-EPERM, "Operation not permitted");
    base->claimed = true;
    base::Uuid uuid = base::Uuid::FromName(*base::Uuid::Parse(kUuidNameSpace),
                                           base::Uuid::Parse(base->uuid)->ToBytes());
    Bdev layer{.name = entry.name,
               .uuid = uuid.ToString(),
               .product_name = "crypto",
               .block_size = base->block_size,
               .block_count = base->block_count};
    layer.driver_specific["crypto"] = {
        {"base_bdev_name", base->name}, {"name", entry.name}, {"key_name", entry.key_name}};
    bdevs_[entry.name] = std::move(layer);
    bdevs_changed_.NotifyAll();
  }
  return absl::OkStatus();
}

void FakeTarget::RemoveCryptoBdevsOf(const std::string& base_name) {
  std::vector<std::string> gone;
  for (const auto& [name, bdev] : bdevs_) {
    const Json* crypto = Member(bdev.driver_specific, "crypto");
    if (crypto != nullptr && (*crypto)["base_bdev_name"] == base_name) gone.push_back(name);
  }
  for (const std::string& name : gone) RemoveBdev(name);
}

FakeTarget::Answer FakeTarget::DeleteCryptoBdev(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  auto bdev = bdevs_.find(name);
  if (bdev == bdevs_.end() || bdev->second.product_name != "crypto") {
    return FakeError(-ENODEV, "No such device");
  }
  const std::string base_name = bdev->second.driver_specific["crypto"]["base_bdev_name"];
  RemoveBdev(name);
  if (Bdev* base = FindBdev(base_name)) base->claimed = false;
  for (auto entry = crypto_names_.begin(); entry != crypto_names_.end(); ++entry) {
    if (entry->name != name) continue;
    if (entry->owns_key) crypto_keys_.erase(entry->key_name);
    crypto_names_.erase(entry);
    break;
  }
  return true;
}

uint64_t FakeTarget::keys_destroyed_in_use() const {
  MutexLock lock(mutex_);
  return keys_destroyed_in_use_;
}

}  // namespace sma::spdk
