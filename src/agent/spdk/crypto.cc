// SPDX-License-Identifier: Apache-2.0

#include "agent/spdk/crypto.h"

#include <cerrno>
#include <utility>

#include "agent/spdk/call.h"
#include "agent/spdk/json_read.h"
#include "base/secret.h"
#include "jsonrpc/error.h"

namespace sma::spdk {
namespace {

using jsonrpc::Json;
using jsonrpc::Request;

constexpr char kCryptoNameSpace[] = "078e3cf7-f4b4-4545-b2c3-d40045a64ae2";
constexpr char kGetKeys[] = "accel_crypto_keys_get";
constexpr char kSimpleLba[] = "SIMPLE_LBA";

void AddKeys(Json& json, const CryptoParams& params) {
  json["cipher"] = CipherName(params.cipher);
  json["key"] = params.key;
  if (!params.key2.empty()) json["key2"] = params.key2;
}

std::optional<CryptoKey> ParseKeyEntry(const Json& entry) {
  CryptoKey key;
  key.name = StringMember(entry, "name").value_or("");
  key.cipher = StringMember(entry, "cipher").value_or("");
  // The target omits the tweak mode of a key that was created inline with its bdev.
  key.tweak_mode = StringMember(entry, "tweak_mode").value_or(kSimpleLba);
  key.key = StringMember(entry, "key").value_or("");
  key.key2 = StringMember(entry, "key2").value_or("");
  if (key.name.empty() || key.cipher.empty() || key.key.empty()) return std::nullopt;
  return key;
}

}  // namespace

CryptoKey::~CryptoKey() {
  base::WipeString(key);
  base::WipeString(key2);
}

base::Uuid CryptoBdevUuid(const base::Uuid& base) {
  return base::Uuid::FromName(*base::Uuid::Parse(kCryptoNameSpace), base.ToBytes());
}

std::optional<VolumeCryptoParameters::Cipher> CipherOf(std::string_view name) {
  for (int i = 0; i < VolumeCryptoParameters::Cipher_ARRAYSIZE; ++i) {
    const auto cipher = static_cast<VolumeCryptoParameters::Cipher>(i);
    if (const char* known = CipherName(cipher); known != nullptr && name == known) return cipher;
  }
  return std::nullopt;
}

std::optional<VolumeCryptoParameters::TweakMode> TweakModeOf(std::string_view name) {
  for (int i = 0; i < VolumeCryptoParameters::TweakMode_ARRAYSIZE; ++i) {
    const auto mode = static_cast<VolumeCryptoParameters::TweakMode>(i);
    if (const char* known = TweakModeName(mode); known != nullptr && name == known) return mode;
  }
  return std::nullopt;
}

const char* CipherName(VolumeCryptoParameters::Cipher cipher) {
  switch (cipher) {
    case VolumeCryptoParameters::AES_CBC:
      return "AES_CBC";
    case VolumeCryptoParameters::AES_XTS:
      return "AES_XTS";
    default:
      return nullptr;
  }
}

const char* TweakModeName(VolumeCryptoParameters::TweakMode mode) {
  switch (mode) {
    case VolumeCryptoParameters::TWEAK_MODE_SIMPLE_LBA:
      return kSimpleLba;
    case VolumeCryptoParameters::TWEAK_MODE_JOIN_NEG_LBA_WITH_LBA:
      return "JOIN_NEG_LBA_WITH_LBA";
    case VolumeCryptoParameters::TWEAK_MODE_INCR_512_FULL_LBA:
      return "INCR_512_FULL_LBA";
    case VolumeCryptoParameters::TWEAK_MODE_INCR_512_UPPER_LBA:
      return "INCR_512_UPPER_LBA";
    default:
      return nullptr;
  }
}

Request CreateCryptoKey(std::string_view name, const CryptoParams& params) {
  Json json{{"name", name}, {"tweak_mode", TweakModeName(params.tweak_mode)}};
  AddKeys(json, params);
  return {"accel_crypto_key_create", std::move(json)};
}

Request GetCryptoKey(std::string_view name) { return {kGetKeys, {{"key_name", name}}}; }

Request DestroyCryptoKey(std::string_view name) {
  return {"accel_crypto_key_destroy", {{"key_name", name}}};
}

Request CreateCryptoBdev(std::string_view name, std::string_view base_name,
                         std::string_view key_name) {
  return {"bdev_crypto_create",
          {{"name", name}, {"base_bdev_name", base_name}, {"key_name", key_name}}};
}

Request CreateCryptoBdevInline(std::string_view name, std::string_view base_name,
                               const CryptoParams& params, std::string_view driver) {
  Json json{{"name", name}, {"base_bdev_name", base_name}};
  if (!driver.empty()) json["crypto_pmd"] = driver;
  AddKeys(json, params);
  return {"bdev_crypto_create", std::move(json)};
}

std::string InlineKeyName(std::string_view bdev_name, VolumeCryptoParameters::Cipher cipher) {
  return std::string(bdev_name).append("_").append(CipherName(cipher));
}

Request DeleteCryptoBdev(std::string_view name) { return {"bdev_crypto_delete", {{"name", name}}}; }

void WipeKeys(Json& value) {
  if (value.is_array()) {
    for (Json& element : value) WipeKeys(element);
  }
  if (!value.is_object()) return;
  for (const char* member : {"key", "key2"}) {
    auto found = value.find(member);
    if (found != value.end() && found->is_string()) {
      base::WipeString(found->get_ref<std::string&>());
    }
  }
}

absl::StatusOr<std::optional<CryptoKey>> ParseCryptoKey(absl::StatusOr<Json>& answer) {
  if (IsNoSuchKey(answer.status())) return std::nullopt;
  if (!answer.ok()) return answer.status();
  bool is_one = answer->is_array() && answer->size() == 1;
  std::optional<CryptoKey> key = is_one ? ParseKeyEntry(answer->front()) : std::nullopt;
  WipeKeys(*answer);
  if (!key) return MalformedAnswer(kGetKeys);
  return key;
}

bool IsNoSuchKey(const absl::Status& status) {
  std::optional<jsonrpc::TargetError> error = jsonrpc::GetTargetError(status);
  return error &&
         (error->message == "key was not found" || error->message == "No key object found");
}

bool IsNoSuchCryptoBdev(const absl::Status& status) {
  std::optional<jsonrpc::TargetError> error = jsonrpc::GetTargetError(status);
  return error && error->code == -ENODEV;
}

}  // namespace sma::spdk
