#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "target/bdev/registry.h"
#include "target/bdev/stacked.h"
#include "target/bdev_modules/crypto/crypto_key.h"

namespace sma::target::bdev_modules {

/// Bdevs that encrypt what is written to the bdev below and decrypt what is read. Control reactor
/// only; outlived by the registry.
class CryptoModule {
 public:
  explicit CryptoModule(bdev::Registry& registry) : registry_(registry), list_(registry) {}

  KeyStore& keys() { return keys_; }

  /// 0, also when the base does not exist yet (it is made when that comes). EEXIST: the name is
  /// taken; EPERM: the base is claimed. `owns_key`: the key leaves the key store with the bdev.
  int Create(const std::string& name, const std::string& base_name,
             std::shared_ptr<const CryptoKey> key, bool owns_key);
  /// ENODEV, and `done` is not called; else as Registry::Unregister. One whose base is not there is
  /// forgotten.
  int Delete(const std::string& name, std::function<void()> done);

 private:
  int Make(const std::string& name, const std::string& base_name,
           std::shared_ptr<const CryptoKey> key);

  bdev::Registry& registry_;
  KeyStore keys_;
  bdev::StackedList list_;
  std::map<std::string, std::string> owned_keys_;  // by the bdev's name
};

}  // namespace sma::target::bdev_modules
