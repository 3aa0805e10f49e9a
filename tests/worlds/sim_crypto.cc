// SPDX-License-Identifier: Apache-2.0

// Implements the keys and crypto bdevs of the simulated target.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "agent/spdk/json_read.h"
#include "base/hex.h"
#include "base/strings.h"
#include "base/uuid.h"
#include "worlds/sim_spdk.h"

namespace sma::worlds {

using jsonrpc::Json;
using spdk::StringMember;

namespace {

// SPDK's namespace UUID for the UUIDs of crypto bdevs.
constexpr char kUuidNameSpace[] = "078e3cf7-f4b4-4545-b2c3-d40045a64ae2";

bool IsAesKey(const std::string& digits) {
  std::optional<std::string> bytes = base::HexDecode(digits);
  return bytes && (bytes->size() == 16 || bytes->size() == 32);
}

// Returns a string that is equal for keys that decrypt identically.
std::string Material(const Json& key) {
  return base::ToLower(fmt::format("{} {} {} {}", StringMember(key, "cipher").value_or(""),
                                   StringMember(key, "key").value_or(""),
                                   StringMember(key, "key2").value_or(""),
                                   StringMember(key, "tweak_mode").value_or("SIMPLE_LBA")));
}

}  // namespace

SimSpdk::Answer SimSpdk::CreateKey(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  const std::string key = StringMember(params, "key").value_or("");
  const std::string key2 = StringMember(params, "key2").value_or("");
  if (keys.contains(name)) {
    return SimError(jsonrpc::kInvalidParams, "failed to create DEK, rc -17");
  }
  if (!IsAesKey(key) || !IsAesKey(key2) || key == key2) {
    return SimError(jsonrpc::kInvalidParams, "failed to create DEK, rc -22");
  }
  Json entry{{"name", name},
             {"cipher", StringMember(params, "cipher").value_or("")},
             {"key", key},
             {"key2", key2},
             {"tweak_mode", StringMember(params, "tweak_mode").value_or("SIMPLE_LBA")}};
  keys[name] = {.params = std::move(entry), .owner = caller_};
  return true;
}

SimSpdk::Answer SimSpdk::GetKeys(const Json& params) {
  std::optional<std::string> name = StringMember(params, "key_name");
  if (name && !keys.contains(*name)) return SimError(jsonrpc::kInvalidParams, "key was not found");
  Json list = Json::array();
  for (const auto& [other, key] : keys) {
    if (!name || *name == other) list.push_back(key.params);
  }
  return list;
}

SimSpdk::Answer SimSpdk::DestroyKey(const Json& params) {
  auto key = keys.find(StringMember(params, "key_name").value_or(""));
  if (key == keys.end()) return SimError(jsonrpc::kInvalidParams, "No key object found");
  JudgeTouch("destroyed key " + key->first, key->second.owner);
  for (const SimCryptoName& user : crypto_names) {
    if (user.key_name == key->first) {
      violations.push_back("key " + key->first + " was destroyed while in use: SPDK crashes");
    }
  }
  keys.erase(key);
  return true;
}

SimSpdk::Answer SimSpdk::CreateCrypto(const Json& params) {
  SimCryptoName entry{.name = StringMember(params, "name").value_or(""),
                      .base_name = StringMember(params, "base_bdev_name").value_or(""),
                      .key_name = StringMember(params, "key_name").value_or(""),
                      .owner = caller_};
  entry.owns_key = entry.key_name.empty();
  if (entry.owns_key) {
    entry.key_name = entry.name + "_" + StringMember(params, "cipher").value_or("");
    Json key = params;
    key["name"] = entry.key_name;
    key.erase("tweak_mode");
    if (!CreateKey(key).ok()) return SimError(jsonrpc::kInternalError, "No key was found");
    keys[entry.key_name].params.erase("tweak_mode");
  } else if (!keys.contains(entry.key_name)) {
    return SimError(jsonrpc::kInvalidParams, "Key was not found");
  }
  const bool taken = std::any_of(crypto_names.begin(), crypto_names.end(),
                                 [&](const auto& other) { return other.name == entry.name; });
  absl::Status status = taken ? SimError(-EEXIST, "File exists") : absl::OkStatus();
  if (status.ok()) {
    crypto_names.push_back(entry);
    status = MakeCryptoBdevs(entry.base_name);
    if (!status.ok()) crypto_names.pop_back();
  }
  if (status.ok()) return entry.name;
  if (entry.owns_key) keys.erase(entry.key_name);
  return status;
}

// Creates all crypto bdevs that were requested for this base, in the order of the requests: as in
// SPDK, those requested while the base did not exist come first. Also returns OK if the base does
// not exist.
absl::Status SimSpdk::MakeCryptoBdevs(const std::string& base_name) {
  const std::vector<SimCryptoName> entries = crypto_names;
  for (const SimCryptoName& entry : entries) {
    SimBdev* base = FindBdev(base_name);
    if (base == nullptr) return absl::OkStatus();
    if (entry.base_name != base_name || bdevs.contains(entry.name)) continue;
    if (!base->claimed_by.empty()) return SimError(-EPERM, "Operation not permitted");
    Contents contents = base->contents;
    const std::string material = Material(keys[entry.key_name].params);
    contents.key = contents.key.empty() ? material : contents.key + " and " + material;
    const base::Uuid uuid = base::Uuid::FromName(*base::Uuid::Parse(kUuidNameSpace),
                                                 base::Uuid::Parse(base->uuid)->ToBytes());
    base->claimed_by = entry.name;
    const std::string base_bdev = base->name;
    const bool added = AddBdev({.name = entry.name,
                                .uuid = uuid.ToString(),
                                .product_name = "crypto",
                                .owner = entry.owner,
                                .contents = contents,
                                .base = base_bdev,
                                .key_name = entry.key_name});
    if (!added) {
      bdevs.at(base_bdev).claimed_by.clear();
      return SimError(-EEXIST, "File exists");
    }
  }
  return absl::OkStatus();
}

SimSpdk::Answer SimSpdk::DeleteCrypto(const Json& params) {
  const std::string name = StringMember(params, "name").value_or("");
  auto bdev = bdevs.find(name);
  if (bdev == bdevs.end() || bdev->second.base.empty()) return SimNoSuchDevice();
  JudgeTouch("deleted crypto bdev " + name, bdev->second.owner);
  const std::string base = bdev->second.base;
  RemoveBdev(name);
  if (bdevs.contains(base)) bdevs.at(base).claimed_by.clear();
  for (auto entry = crypto_names.begin(); entry != crypto_names.end(); ++entry) {
    if (entry->name != name) continue;
    if (entry->owns_key) keys.erase(entry->key_name);
    crypto_names.erase(entry);
    break;
  }
  return true;
}

}  // namespace sma::worlds
