// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/bdev/crypto_rpc.h"

#include <memory>
#include <optional>
#include <string>

#include "base/secret.h"
#include "storage_target/rpc/bdev/delete_from.h"
#include "storage_target/rpc/params.h"

namespace sma::storage_target::rpc {
namespace {

using bdev_crypto::Cipher;
using bdev_crypto::CryptoKey;
using bdev_crypto::CryptoModule;
using bdev_crypto::KeyStore;

/// The hex digits of a key before it is in the key store; overwritten on destruction.
struct KeyText {
  ~KeyText() { base::WipeString(text); }
  std::string text;
};

// SPDK's error for parameters of the accel_crypto_* methods that cannot be decoded.
RpcError KeyDecodeError() { return {jsonrpc::kParseError, DecodeError().message}; }

RpcResult CreateKey(KeyStore& keys, const Json& params) {
  CryptoKey::Params key;
  std::string cipher;
  std::string tweak_mode = TweakModeName(key.tweak_mode);
  KeyText text;
  KeyText text2;
  if (!Decode(params, {Required("name", &key.name), Required("cipher", &cipher),
                       Required("key", &text.text), Optional("key2", &text2.text),
                       Optional("tweak_mode", &tweak_mode)})) {
    return KeyDecodeError();
  }
  auto parsed_cipher = bdev_crypto::ParseCipher(cipher);
  auto parsed_mode = bdev_crypto::ParseTweakMode(tweak_mode);
  if (!parsed_cipher || !parsed_mode) return KeyDecodeError();
  key.cipher = *parsed_cipher;
  key.tweak_mode = *parsed_mode;
  key.key = text.text;
  key.key2 = text2.text;
  int error = keys.Create(key);
  if (error != 0) return InvalidParams("failed to create DEK, rc " + std::to_string(-error));
  return Json(true);
}

Json FormatKey(const CryptoKey& key) {
  Json json = {{"name", key.name()},
               {"cipher", CipherName(key.cipher())},
               {"key", std::string(key.key())},
               {"tweak_mode", TweakModeName(key.tweak_mode())}};
  if (!key.key2().empty()) json["key2"] = std::string(key.key2());
  return json;
}

RpcResult GetKeys(const KeyStore& keys, const Json& params) {
  std::optional<std::string> name;
  if (!Decode(params, {Optional("key_name", &name)})) return KeyDecodeError();
  Json list = Json::array();
  if (name) {
    auto key = keys.Find(*name);
    if (!key) return InvalidParams("key was not found");
    list.push_back(FormatKey(*key));
    return list;
  }
  for (const auto& key : keys.keys()) list.push_back(FormatKey(*key));
  return list;
}

RpcResult DestroyKey(KeyStore& keys, const Json& params) {
  std::string name;
  if (!Decode(params, {Required("key_name", &name)})) return KeyDecodeError();
  if (keys.Destroy(name) != 0) return InvalidParams("No key object found");
  return Json(true);
}

struct CreateParams {
  std::string name;
  std::string base_name;
  std::optional<std::string> key_name;
  std::optional<std::string> cipher;
  KeyText key;
  KeyText key2;
};

/// Creates the key that is given inline with a bdev and is named after the bdev; returns nullptr if
/// it is invalid.
std::shared_ptr<const CryptoKey> MakeInlineKey(KeyStore& keys, const CreateParams& params) {
  // The default is that of SPDK.
  auto cipher = bdev_crypto::ParseCipher(params.cipher.value_or(CipherName(Cipher::kAesCbc)));
  if (!cipher || params.key.text.empty()) return nullptr;
  CryptoKey::Params key;
  key.name = params.name + "_" + CipherName(*cipher);
  key.cipher = *cipher;
  key.key = params.key.text;
  key.key2 = params.key2.text;
  return keys.Create(key) == 0 ? keys.Find(key.name) : nullptr;
}

RpcError KeyNotFound() {
  RpcError error = InvalidParams("Key was not found");
  error.is_unsupported = true;
  return error;
}

RpcResult CreateBdev(CryptoModule& module, const Json& params) {
  CreateParams create;
  if (!Decode(params,
              {Required("name", &create.name), Required("base_bdev_name", &create.base_name),
               Optional("key_name", &create.key_name), Optional("cipher", &create.cipher),
               Optional("key", &create.key.text), Optional("key2", &create.key2.text),
               Ignored("crypto_pmd")})) {
    return DecodeError();
  }
  std::shared_ptr<const CryptoKey> key;
  if (create.key_name) {
    key = module.keys().Find(*create.key_name);
    // Keys are not saved, so a saved configuration is loaded without its encrypted bdevs.
    if (!key) return KeyNotFound();
  } else {
    key = MakeInlineKey(module.keys(), create);
    if (!key) return InternalError("No key was found");
  }
  bool owns_key = !create.key_name.has_value();
  int error = module.Create(create.name, create.base_name, key, owns_key);
  if (error == 0) return Json(create.name);
  if (owns_key) module.keys().Destroy(key->name());
  return ErrnoError(error);
}

}  // namespace

void RegisterCryptoRpc(RpcServer& server, CryptoModule& module) {
  KeyStore& keys = module.keys();
  server.Register("accel_crypto_key_create",
                  [&](const Json& params) { return CreateKey(keys, params); });
  server.Register("accel_crypto_keys_get",
                  [&](const Json& params) { return GetKeys(keys, params); });
  server.Register("accel_crypto_key_destroy",
                  [&](const Json& params) { return DestroyKey(keys, params); });
  server.Register("bdev_crypto_create",
                  [&](const Json& params) { return CreateBdev(module, params); });
  server.RegisterAsync("bdev_crypto_delete", [&](const Json& params, const Reply& reply) {
    DeleteFrom(module, params, reply);
  });
}

}  // namespace sma::storage_target::rpc
