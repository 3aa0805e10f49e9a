// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/crypto/crypto_bdev.h"

#include <cerrno>
#include <utility>

#include "storage_target/bdev_modules/crypto/crypto_channel.h"

namespace sma::storage_target::bdev_crypto {
namespace {

using bdev::BaseBdev;
using bdev::Bdev;
using bdev::Channel;
using bdev::IoType;

constexpr char kModule[] = "crypto";
// SPDK's namespace UUID for the UUIDs of crypto bdevs.
constexpr char kUuidNameSpace[] = "078e3cf7-f4b4-4545-b2c3-d40045a64ae2";

class CryptoBdev : public Bdev {
 public:
  CryptoBdev(Info info, std::unique_ptr<BaseBdev> base, std::shared_ptr<const CryptoKey> key)
      : Bdev(std::move(info)), base_(std::move(base)), key_(std::move(key)) {
    base_->SetOwner(*this);
  }

  std::string_view module() const override { return kModule; }

  // Zeroes must be encrypted when they are written, and data must be decrypted before they are
  // compared, so the generic bdev layer replaces both operations with writes and reads.
  bool Supports(IoType type) const override {
    return type != IoType::kWriteZeroes && type != IoType::kCompare && base_->bdev().Supports(type);
  }

  bdev::Object DriverSpecific() const override {
    return {{"crypto", bdev::Object{{"base_bdev_name", base_->bdev().name()},
                                    {"name", name()},
                                    {"key_name", key_->name()}}}};
  }

  // Saves only the name of the key: key material is never saved.
  void SaveConfig(std::vector<bdev::ConfigCall>& calls) const override {
    calls.push_back(
        {"bdev_crypto_create",
         {{"base_bdev_name", base_->bdev().name()}, {"name", name()}, {"key_name", key_->name()}}});
  }

 protected:
  std::unique_ptr<Channel> MakeChannel(Reactor& reactor) override {
    return std::make_unique<CryptoChannel>(*this, reactor, base_->descriptor().OpenChannel(reactor),
                                           *key_);
  }

 private:
  const std::unique_ptr<BaseBdev> base_;
  const std::shared_ptr<const CryptoKey> key_;
};

}  // namespace

int CryptoModule::Create(const std::string& name, const std::string& base_name,
                         std::shared_ptr<const CryptoKey> key, bool owns_key) {
  std::string key_name = key->name();
  int error = list_.Add(name, base_name, [this, name, key](const std::string& base) {
    return Make(name, base, key);
  });
  if (error == 0 && owns_key) owned_keys_[name] = key_name;
  return error;
}

int CryptoModule::Make(const std::string& name, const std::string& base_name,
                       std::shared_ptr<const CryptoKey> key) {
  auto base = BaseBdev::Claim(registry_, base_name, kModule);
  if (!base.ok()) return base.error();
  Bdev::Info info = (*base)->bdev().info();
  info.name = name;
  info.medium.clear();  // belongs to the base
  info.uuid = base::Uuid::FromName(*base::Uuid::Parse(kUuidNameSpace), info.uuid.ToBytes());
  info.product_name = "crypto";
  info.block_count = (*base)->bdev().block_count();
  info.native_fua = true;  // passed to the base
  info.unmap_reads_zero = false;
  info.write_zeroes_deallocates = false;
  info.extra_io_types.clear();
  return registry_.Register(
      std::make_unique<CryptoBdev>(std::move(info), std::move(*base), std::move(key)));
}

int CryptoModule::Delete(const std::string& name, std::function<void()> done) {
  bool was_listed = list_.Remove(name);
  auto owned = owned_keys_.extract(name);
  if (!owned.empty()) keys_.Destroy(owned.mapped());
  int error = registry_.Unregister(name, kModule, done);
  if (error != ENODEV || !was_listed) return error;
  done();  // its base does not exist
  return 0;
}

}  // namespace sma::storage_target::bdev_crypto
