#pragma once

#include "target/bdev_modules/crypto/crypto_bdev.h"
#include "target/rpc/rpc_server.h"

namespace sma::target::rpc {

/// accel_crypto_key_create, accel_crypto_keys_get, accel_crypto_key_destroy, bdev_crypto_create,
/// bdev_crypto_delete. Keys are shown by accel_crypto_keys_get alone, and never logged or saved.
void RegisterCryptoRpc(RpcServer& server, bdev_modules::CryptoModule& module);

}  // namespace sma::target::rpc
