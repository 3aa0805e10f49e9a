// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "storage_target/bdev/registry.h"
#include "storage_target/bdev/stacked.h"
#include "storage_target/bdev_modules/crypto/crypto_key.h"

namespace sma::storage_target::bdev_crypto {

/// Creates bdevs that encrypt writes to the bdev below and decrypt reads. Used only on the control
/// reactor; the registry outlives it.
class CryptoModule {
 public:
  explicit CryptoModule(bdev::Registry& registry) : registry_(registry), list_(registry) {}

  KeyStore& keys() { return keys_; }

  /// Returns 0 even if the base does not exist yet; the bdev is then created when the base appears.
  /// Errors: EEXIST if the name is already used; EPERM if the base is claimed. With `owns_key`, the
  /// key is removed from the key store together with the bdev.
  int Create(const std::string& name, const std::string& base_name,
             std::shared_ptr<const CryptoKey> key, bool owns_key);
  /// Returns ENODEV without calling `done` if there is no such bdev; otherwise behaves like
  /// Registry::Unregister. If the base does not exist, the pending creation is cancelled.
  int Delete(const std::string& name, std::function<void()> done);

 private:
  int Make(const std::string& name, const std::string& base_name,
           std::shared_ptr<const CryptoKey> key);

  bdev::Registry& registry_;
  KeyStore keys_;
  bdev::StackedList list_;
  std::map<std::string, std::string> owned_keys_;  // keyed by the bdev's name
};

}  // namespace sma::storage_target::bdev_crypto
