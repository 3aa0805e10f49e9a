#include "target/rpc/crypto_rpc.h"

#include <memory>
#include <optional>
#include <string>

#include "base/secret.h"
#include "target/rpc/params.h"

namespace sma::target::rpc {
namespace {

using bdev_modules::Cipher;
using bdev_modules::CryptoKey;
using bdev_modules::CryptoModule;
using bdev_modules::KeyStore;

/// A key's hex digits on their way to the key store; overwritten afterwards.
struct KeyText {
  ~KeyText() { base::WipeString(text); }
  std::string text;
};

// What SPDK answers for parameters of the accel_crypto_* methods that it cannot decode.
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
  auto parsed_cipher = bdev_modules::ParseCipher(cipher);
  auto parsed_mode = bdev_modules::ParseTweakMode(tweak_mode);
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

/// Makes the key that a bdev is created with inline, named after the bdev; nullptr when it is not a
/// sound one.
std::shared_ptr<const CryptoKey> MakeInlineKey(KeyStore& keys, const CreateParams& params) {
  // As SPDK's default.
  auto cipher = bdev_modules::ParseCipher(params.cipher.value_or(CipherName(Cipher::kAesCbc)));
  if (!cipher || params.key.text.empty()) return nullptr;
  CryptoKey::Params key;
  key.name = params.name + "_" + CipherName(*cipher);
  key.cipher = *cipher;
  key.key = params.key.text;
  key.key2 = params.key2.text;
  return keys.Create(key) == 0 ? keys.Find(key.name) : nullptr;
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
    if (!key) return InvalidParams("Key was not found");
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
    std::string name;
    if (!Decode(params, {Required("name", &name)})) return reply(DecodeError());
    int error = module.Delete(name, [reply] { reply(Json(true)); });
    if (error != 0) reply(ErrnoError(error));
  });
}

}  // namespace sma::target::rpc
