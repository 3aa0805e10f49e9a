// SPDX-License-Identifier: Apache-2.0

// Submits one I/O at a time to an encrypted bdev and prints, as JSON, how many bytes per second one
// core encrypts or decrypts. The bdev below moves no data, so that nothing else is measured (a null
// bdev would zero the data of reads). See crypto.py.

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "storage_target/bdev/bdev.h"
#include "storage_target/bdev/channel.h"
#include "storage_target/bdev/registry.h"
#include "storage_target/bdev_modules/crypto/crypto_bdev.h"
#include "storage_target/reactor/reactor.h"

namespace sma::bench {
namespace {

using std::chrono::steady_clock;
using storage_target::Reactor;
using storage_target::bdev::Io;
using storage_target::bdev::IoStatus;
using storage_target::bdev::IoType;
namespace bdev = storage_target::bdev;
namespace modules = storage_target::bdev_crypto;

constexpr uint64_t kDiskBytes = uint64_t{1} << 30;
// The number of I/Os between two readings of the clock.
constexpr int kBatch = 64;

struct Options {
  uint32_t block_size = 4096;
  uint32_t io_bytes = 4096;
  uint32_t key_bits = 128;
  bool write = false;
  double seconds = 1;
};

struct Events : bdev::DescriptorEvents {
  void OnBdevRemove() override {}
  void OnBdevResize() override {}
};

/// A bdev that completes all I/O immediately and does not touch the data.
class IdleBdev : public bdev::Bdev {
 public:
  using Bdev::Bdev;
  std::string_view module() const override { return "idle"; }
  bool Supports(IoType type) const override {
    return type == IoType::kRead || type == IoType::kWrite;
  }

 protected:
  class IdleChannel : public bdev::Channel {
   public:
    IdleChannel(Bdev& bdev, Reactor& reactor) : Channel(bdev, reactor) {}

   private:
    void DoSubmit(Io& io) override { Complete(io, IoStatus::kOk); }
  };
  std::unique_ptr<bdev::Channel> MakeChannel(Reactor& reactor) override {
    return std::make_unique<IdleChannel>(*this, reactor);
  }
};

struct BenchIo : Io {
  bool ended = false;
  bool failed = false;
};

void RunOne(bdev::Channel& channel, BenchIo& io) {
  io.ended = false;
  channel.Submit(io);
  if (!io.ended) channel.reactor().RunUntil([&] { return io.ended; }, std::chrono::seconds(10));
}

nlohmann::json Measure(const Options& options, bdev::Channel& channel) {
  std::vector<std::byte> data(options.io_bytes, std::byte{0x5a});
  iovec iov{data.data(), data.size()};
  BenchIo io;
  io.type = options.write ? IoType::kWrite : IoType::kRead;
  io.block_count = options.io_bytes / options.block_size;
  io.iovs = &iov;
  io.iov_count = 1;
  io.done = [](Io& self, IoStatus status) {
    auto& mine = static_cast<BenchIo&>(self);
    mine.ended = true;
    mine.failed |= status != IoStatus::kOk;
  };
  const uint64_t last_lba = kDiskBytes / options.block_size - io.block_count;
  const auto start = steady_clock::now();
  const auto end = start + std::chrono::duration<double>(options.seconds);
  uint64_t ios = 0;
  auto now = start;
  for (; now < end; now = steady_clock::now()) {
    for (int i = 0; i < kBatch; ++i, ++ios) {
      RunOne(channel, io);
      io.lba = io.lba + io.block_count > last_lba ? 0 : io.lba + io.block_count;
    }
  }
  double seconds = std::chrono::duration<double>(now - start).count();
  return {{"bytes_per_second", static_cast<double>(ios * options.io_bytes) / seconds},
          {"failed", io.failed}};
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("How fast one core encrypts and decrypts a bdev.", "crypto_load");
  app.add_option("--block-size", options.block_size, "bytes of a block");
  app.add_option("--io-bytes", options.io_bytes, "bytes of an I/O");
  app.add_option("--key-bits", options.key_bits, "of each of the two keys")
      ->check(CLI::IsMember({128, 256}));
  app.add_flag("--write", options.write, "encrypt; else decrypt");
  app.add_option("--seconds", options.seconds, "how long");
  CLI11_PARSE(app, argc, argv);

  std::unique_ptr<Reactor> reactor = Reactor::ForThisThread({});
  bdev::Registry registry(*reactor);
  modules::CryptoModule module(registry);
  const std::string key(options.key_bits / 4, '1');
  const std::string key2(options.key_bits / 4, '2');
  int error = registry.Register(
      std::make_unique<IdleBdev>(bdev::Bdev::Info{.name = "base",
                                                  .uuid = base::Uuid::Random(),
                                                  .block_size = options.block_size,
                                                  .block_count = kDiskBytes / options.block_size}));
  if (error == 0) error = module.keys().Create({.name = "key", .key = key, .key2 = key2});
  if (error == 0) error = module.Create("crypt", "base", module.keys().Find("key"), false);
  if (error != 0) return EXIT_FAILURE;
  Events events;
  auto descriptor = registry.Open("crypt", bdev::Registry::Access::kWrite, &events);
  if (!descriptor.ok()) return EXIT_FAILURE;
  std::unique_ptr<bdev::Channel> channel = (*descriptor)->OpenChannel(*reactor);
  std::cout << Measure(options, *channel) << "\n";
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace sma::bench

int main(int argc, char** argv) { return sma::bench::Main(argc, argv); }
