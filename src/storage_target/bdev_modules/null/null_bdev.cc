// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/null/null_bdev.h"

#include <cstring>
#include <utility>

#include "storage_target/bdev/channel.h"
#include "storage_target/bdev/zeroes.h"

namespace sma::storage_target::bdev_null {
namespace {

using bdev::Bdev;
using bdev::Channel;
using bdev::Io;
using bdev::IoStatus;
using bdev::IoType;

class NullChannel : public Channel {
 public:
  NullChannel(Bdev& bdev, Reactor& reactor) : Channel(bdev, reactor) {}

 private:
  void DoSubmit(Io& io) override {
    if (io.type == IoType::kRead) {
      for (uint32_t i = 0; i < io.iov_count; ++i) {
        std::memset(io.iovs[i].iov_base, 0, io.iovs[i].iov_len);
      }
    }
    Complete(io, IoStatus::kOk);
  }

  std::byte* DoAccessInPlace(IoType type, uint64_t /*lba*/, uint64_t block_count) override {
    bool fits = block_count <= bdev::Zeroes().size() / bdev().block_size();
    return type == IoType::kRead && fits ? bdev::Zeroes().data() : nullptr;
  }
};

class NullBdev : public Bdev {
 public:
  using Bdev::Bdev;

  std::string_view module() const override { return kNullModule; }

  bool Supports(IoType type) const override {
    return type == IoType::kRead || type == IoType::kWrite || type == IoType::kWriteZeroes;
  }

  void SaveConfig(std::vector<bdev::ConfigCall>& calls) const override {
    bdev::Object params = {{"name", name()},
                           {"num_blocks", block_count()},
                           {"block_size", block_size()},
                           {"uuid", info().uuid.ToString()}};
    auto add_preference = [&](const char* key, uint32_t blocks) {
      if (blocks != 0) params.emplace_back(key, blocks);
    };
    add_preference("preferred_write_alignment", info().write_alignment);
    add_preference("preferred_write_granularity", info().write_granularity);
    add_preference("optimal_write_size", info().optimal_write_size);
    add_preference("preferred_unmap_alignment", info().unmap_alignment);
    add_preference("preferred_unmap_granularity", info().unmap_granularity);
    calls.push_back({"bdev_null_create", std::move(params)});
  }

 protected:
  std::unique_ptr<Channel> MakeChannel(Reactor& reactor) override {
    return std::make_unique<NullChannel>(*this, reactor);
  }
};

}  // namespace

std::unique_ptr<Bdev> MakeNullBdev(Bdev::Info info) {
  info.product_name = "Null disk";
  info.unmap_reads_zero = true;
  info.write_zeroes_deallocates = true;
  info.extra_io_types = {"abort"};
  return std::make_unique<NullBdev>(std::move(info));
}

}  // namespace sma::storage_target::bdev_null
