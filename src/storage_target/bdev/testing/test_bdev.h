// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage_target/bdev/bdev.h"
#include "storage_target/bdev/registry.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/reactor/testing/cpu_time.h"

// For tests only: a bdev that keeps its I/Os until the test completes them, and an I/O that stores
// its result.

namespace sma::storage_target::bdev {

/// Controls what the channels of a TestBdev do. Owned by the test.
struct TestModule {
  std::vector<IoType> native_types = {IoType::kRead, IoType::kWrite, IoType::kFlush};
  bool complete_at_once = true;
  bool can_abort = false;  // pending I/O can be aborted
  IoStatus status = IoStatus::kOk;
  std::byte fill{0};                 // the bytes that reads return
  std::byte* memory = nullptr;       // the memory that in-place reads return
  std::vector<Io*> pending{};        // kept while !complete_at_once
  std::vector<IoType> seen_types{};  // the types of all submitted I/Os
  std::vector<uint64_t> seen_blocks{};
  int device_resets = 0;
  int channel_resets = 0;
  int destroyed = 0;
};

class TestChannel : public Channel {
 public:
  TestChannel(Bdev& bdev, Reactor& reactor, TestModule& module)
      : Channel(bdev, reactor), module_(module) {}

  void CompletePending(IoStatus status) {
    std::vector<Io*> pending = std::move(module_.pending);
    module_.pending.clear();
    for (Io* io : pending) Complete(*io, status);
  }

 private:
  void DoSubmit(Io& io) override {
    module_.seen_types.push_back(io.type);
    module_.seen_blocks.push_back(io.block_count);
    if (io.type == IoType::kRead) {
      for (uint32_t i = 0; i < io.iov_count; ++i) {
        std::fill_n(static_cast<std::byte*>(io.iovs[i].iov_base), io.iovs[i].iov_len, module_.fill);
      }
    }
    if (module_.complete_at_once) return Complete(io, module_.status);
    module_.pending.push_back(&io);
  }
  bool DoAbort(Io& io) override {
    if (!module_.can_abort || std::erase(module_.pending, &io) == 0) return false;
    Complete(io, IoStatus::kAborted);
    return true;
  }
  std::byte* DoAccessInPlace(IoType type, uint64_t /*lba*/, uint64_t /*block_count*/) override {
    return type == IoType::kRead ? module_.memory : nullptr;
  }
  void DoReset() override { ++module_.channel_resets; }

  TestModule& module_;
};

class TestBdev : public Bdev {
 public:
  TestBdev(Info info, TestModule& module) : Bdev(std::move(info)), module_(module) {}
  ~TestBdev() override { ++module_.destroyed; }

  std::string_view module() const override { return "test"; }
  bool Supports(IoType type) const override {
    for (IoType native : module_.native_types) {
      if (native == type) return true;
    }
    return false;
  }
  void ResetDevice(std::function<void(int error)> done) override {
    ++module_.device_resets;
    done(0);
  }

 protected:
  std::unique_ptr<Channel> MakeChannel(Reactor& reactor) override {
    return std::make_unique<TestChannel>(*this, reactor, module_);
  }

 private:
  TestModule& module_;
};

struct TestEvents : DescriptorEvents {
  void OnBdevRemove() override {
    ++removals;
    if (on_remove) on_remove();
  }
  void OnBdevResize() override { ++resizes; }
  int removals = 0;
  int resizes = 0;
  std::function<void()> on_remove;
};

/// An I/O with a buffer of its own.
struct TestIo : Io {
  TestIo(IoType io_type, uint64_t first_lba, uint64_t blocks, uint32_t block_size,
         std::byte value = {}) {
    type = io_type;
    lba = first_lba;
    block_count = blocks;
    data.resize(blocks * block_size, value);
    iov = {data.data(), data.size()};
    iovs = &iov;
    iov_count = 1;
    done = [](Io& self, IoStatus status) {
      auto& mine = static_cast<TestIo&>(self);
      mine.result = status;
      if (mine.then) mine.then();
    };
  }
  TestIo(const TestIo&) = delete;
  TestIo& operator=(const TestIo&) = delete;

  std::vector<std::byte> data;
  iovec iov{};
  std::optional<IoStatus> result;
  std::function<void()> then;
};

using storage_target::ThreadCpuNs;

/// Submits `io` and runs this thread's event loop until it completes.
inline std::optional<IoStatus> RunIo(Channel& channel, TestIo& io) {
  channel.Submit(io);
  channel.reactor().RunUntil([&] { return io.result.has_value(); }, std::chrono::seconds(30));
  return io.result;
}

/// A disk that completes every I/O immediately, on any reactor. Stateless, so that reactors share
/// nothing.
class InstantBdev : public Bdev {
 public:
  using Bdev::Bdev;
  std::string_view module() const override { return "instant"; }
  bool Supports(IoType) const override { return true; }

 protected:
  class InstantChannel : public Channel {
   public:
    InstantChannel(Bdev& bdev, Reactor& reactor) : Channel(bdev, reactor) {}

   private:
    void DoSubmit(Io& io) override { Complete(io, IoStatus::kOk); }
  };
  std::unique_ptr<Channel> MakeChannel(Reactor& reactor) override {
    return std::make_unique<InstantChannel>(*this, reactor);
  }
};

}  // namespace sma::storage_target::bdev
