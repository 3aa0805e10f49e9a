// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "storage_target/bdev_modules/crypto/crypto_bdev.h"
#include "storage_target/rpc/rpc_server.h"

namespace sma::storage_target::rpc {

/// Registers accel_crypto_key_create, accel_crypto_keys_get, accel_crypto_key_destroy,
/// bdev_crypto_create and bdev_crypto_delete. Only accel_crypto_keys_get returns keys; they are
/// never logged or saved.
void RegisterCryptoRpc(RpcServer& server, bdev_crypto::CryptoModule& module);

}  // namespace sma::storage_target::rpc
