// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/bdev_modules/crypto/crypto_bdev.h"

namespace sma::storage_target::bdev_crypto {

/// A crypto module in this thread's reactor, and a channel of one of its bdevs, "Crypt".
class CryptoFixture : public testing::Test {
 protected:
  void TearDown() override {
    channel_.reset();
    descriptor_.reset();
  }

  static constexpr uint32_t kBlockSize = 4096;

  /// Creates the key and the crypto bdev "Crypt" on `base`, and opens that bdev.
  void OpenOn(std::unique_ptr<bdev::Bdev> base, const CryptoKey::Params& params) {
    const std::string base_name = base->name();
    ASSERT_EQ(registry_.Register(std::move(base)), 0);
    ASSERT_EQ(module_.keys().Create(params), 0);
    ASSERT_EQ(module_.Create("Crypt", base_name, module_.keys().Find(params.name), false), 0);
    descriptor_ = std::move(*registry_.Open("Crypt", bdev::Registry::Access::kWrite, &events_));
    channel_ = descriptor_->OpenChannel(*reactor_);
  }

  bdev::TestEvents events_;
  std::unique_ptr<Reactor> reactor_ = Reactor::ForThisThread({});
  bdev::Registry registry_{*reactor_};
  CryptoModule module_{registry_};
  std::unique_ptr<bdev::Descriptor> descriptor_;
  std::unique_ptr<bdev::Channel> channel_;
};

}  // namespace sma::storage_target::bdev_crypto
