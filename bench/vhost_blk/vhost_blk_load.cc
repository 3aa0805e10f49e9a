// SPDX-License-Identifier: Apache-2.0

// Loads one vring of a vhost-user-blk device with random I/O, polling without pauses, and prints
// the rate as JSON.

#include <fmt/core.h>
#include <linux/virtio_blk.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "harness/vhost_user/front_end.h"
#include "harness/vhost_user/guest_ram.h"
#include "harness/vhost_user/split_driver.h"

namespace sma::bench {
namespace {

using harness::DriverBuffer;
using harness::FrontEnd;
using harness::GuestBuffer;
using harness::GuestRam;
using harness::SplitDriver;
using std::chrono::steady_clock;

constexpr uint64_t kGuestAddress = 0x1'0000'0000;
constexpr uint64_t kUserAddress = 0x7abc'0000'0000;
constexpr size_t kRamBytes = 64 << 20;
constexpr uint32_t kSectorBytes = 512;
constexpr unsigned kPackedRing = 34;  // VIRTIO_F_RING_PACKED, which the driver does not support

struct Options {
  std::string socket;
  uint32_t depth = 1;
  uint32_t io_bytes = 4096;
  uint64_t disk_bytes = 64 << 20;
  double seconds = 1;
  double warm_up_seconds = 0.2;
  bool write = false;
  bool fill = false;
  bool copy = false;
  int cpu = -1;
};

// The memory of one outstanding request, allocated once and reused.
struct Slot {
  GuestBuffer header;
  GuestBuffer data;
  GuestBuffer status;
};

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options), ram_(kRamBytes, kGuestAddress, kUserAddress) {}

  bool Start() {
    GuestRam* rams[] = {&ram_};
    if (!front_end_.Connect(options_.socket)) return false;
    if (!front_end_.Negotiate(uint64_t{1} << kPackedRing)) return false;
    if (!front_end_.SetMemTable(rams)) return false;
    for (uint32_t i = 0; i < options_.depth; ++i) {
      slots_.push_back({.header = ram_.Allocate(sizeof(virtio_blk_outhdr)),
                        .data = ram_.Allocate(options_.io_bytes, 4096),
                        .status = ram_.Allocate(1)});
    }
    by_head_.resize(kRingSize);
    ring_.DisableInterrupts();
    return front_end_.StartVring(0, ring_, ram_, 0, kick_.get(), call_.get());
  }

  // Writes every block of the disk once, because memory that has never been written is a single
  // page of zeroes, which is read too fast and written too slowly. Returns false if a request
  // failed.
  bool Fill() {
    for (const Slot& slot : slots_) std::memset(slot.data.bytes.data(), 0x5a, options_.io_bytes);
    fill_end_ = options_.disk_bytes / kSectorBytes;
    uint32_t in_flight = 0;
    for (uint32_t i = 0; i < options_.depth && SubmitFill(i); ++i) ++in_flight;
    Publish();
    while (in_flight > 0) {
      while (auto used = ring_.PopUsed()) {
        const uint32_t slot = by_head_[used->head];
        if (slots_[slot].status.bytes[0] != std::byte{VIRTIO_BLK_S_OK}) return false;
        if (!SubmitFill(slot)) --in_flight;
      }
      ring_.DisableInterrupts();
      Publish();
    }
    return true;
  }

  // Returns I/Os per second, or a negative number if a request failed.
  double Run() {
    for (uint32_t i = 0; i < options_.depth; ++i) SubmitRandom(i);
    Publish();
    if (!RunFor(options_.warm_up_seconds)) return -1;
    done_ = 0;
    const auto start = steady_clock::now();
    if (!RunFor(options_.seconds)) return -1;
    return static_cast<double>(done_) /
           std::chrono::duration<double>(steady_clock::now() - start).count();
  }

 private:
  static constexpr uint16_t kRingSize = 1024;

  bool RunFor(double seconds) {
    const auto until = steady_clock::now() + std::chrono::duration<double>(seconds);
    do {
      // The clock is read only once in many rounds.
      for (int i = 0; i < 1000; ++i) {
        if (!Reap()) return false;
      }
    } while (steady_clock::now() < until);
    return true;
  }

  bool Reap() {
    bool any = false;
    while (auto used = ring_.PopUsed()) {
      const uint32_t slot = by_head_[used->head];
      if (slots_[slot].status.bytes[0] != std::byte{VIRTIO_BLK_S_OK}) return false;
      SubmitRandom(slot);
      ++done_;
      any = true;
    }
    if (any) {
      ring_.DisableInterrupts();
      Publish();
    }
    return true;
  }

  void SubmitRandom(uint32_t index) {
    const uint64_t io_sectors = options_.io_bytes / kSectorBytes;
    const uint64_t blocks = options_.disk_bytes / kSectorBytes / io_sectors;
    Submit(index, options_.write, random_() % blocks * io_sectors);
  }

  // Submits the write of the next block for Fill; returns false if there is none.
  bool SubmitFill(uint32_t index) {
    if (next_fill_ >= fill_end_) return false;
    Submit(index, /*write=*/true, next_fill_);
    next_fill_ += options_.io_bytes / kSectorBytes;
    return true;
  }

  void Submit(uint32_t index, bool write, uint64_t sector) {
    const Slot& slot = slots_[index];
    const virtio_blk_outhdr header{
        .type = write ? uint32_t{VIRTIO_BLK_T_OUT} : uint32_t{VIRTIO_BLK_T_IN},
        .ioprio = 0,
        .sector = sector};
    std::memcpy(slot.header.bytes.data(), &header, sizeof header);
    slot.status.bytes[0] = std::byte{0xff};
    const DriverBuffer chain[] = {{slot.header.guest_address, sizeof header, false},
                                  {slot.data.guest_address, options_.io_bytes, !write},
                                  {slot.status.guest_address, 1, true}};
    by_head_[*ring_.Add(chain)] = index;
  }

  void Publish() {
    if (!ring_.Publish()) return;
    const uint64_t one = 1;
    [[maybe_unused]] ssize_t written = ::write(kick_.get(), &one, sizeof one);
  }

  const Options options_;
  GuestRam ram_;
  FrontEnd front_end_;
  SplitDriver ring_{ram_, {.size = kRingSize, .indirect = true}};
  base::UniqueFd kick_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  base::UniqueFd call_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::vector<Slot> slots_;
  std::vector<uint32_t> by_head_;
  std::minstd_rand random_;
  uint64_t next_fill_ = 0, fill_end_ = 0;  // sectors
  uint64_t done_ = 0;
};

// Measures the physical limit: copies random blocks of a disk of this size to or from buffers that
// are used in turn, and does nothing else. Returns blocks per second for one core.
double CopyRate(const Options& options) {
  std::vector<std::byte> disk(options.disk_bytes, std::byte{0x5a});
  std::vector<std::byte> buffers(size_t{options.depth} * options.io_bytes, std::byte{0x33});
  std::minstd_rand random;
  const uint64_t blocks = options.disk_bytes / options.io_bytes;
  uint64_t done = 0;
  const auto start = steady_clock::now();
  const auto until = start + std::chrono::duration<double>(options.seconds);
  do {
    for (int i = 0; i < 1000; ++i, ++done) {
      std::byte* block = disk.data() + random() % blocks * options.io_bytes;
      std::byte* buffer = buffers.data() + done % options.depth * options.io_bytes;
      std::memcpy(options.write ? block : buffer, options.write ? buffer : block, options.io_bytes);
      asm volatile("" : : "r"(buffer), "r"(block) : "memory");  // the copy is used
    }
  } while (steady_clock::now() < until);
  return static_cast<double>(done) /
         std::chrono::duration<double>(steady_clock::now() - start).count();
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Loads one vring of a vhost-user-blk device and prints the rate as JSON.");
  app.add_option("--socket", options.socket);
  app.add_option("--depth", options.depth)->check(CLI::Range(1, 512));
  app.add_option("--io-bytes", options.io_bytes);
  app.add_option("--disk-bytes", options.disk_bytes);
  app.add_option("--seconds", options.seconds);
  app.add_option("--cpu", options.cpu);
  app.add_flag("--write", options.write);
  app.add_flag("--fill", options.fill, "Writes every block once, before the measurement");
  app.add_flag("--copy", options.copy, "Measures plain copies in memory instead of a device");
  CLI11_PARSE(app, argc, argv);
  if (options.cpu >= 0) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(options.cpu, &cpus);
    if (::sched_setaffinity(0, sizeof cpus, &cpus) != 0) return 1;
  }
  if (options.copy) {
    fmt::print("{}\n", nlohmann::json{{"ios_per_second", CopyRate(options)}}.dump());
    return 0;
  }
  Load load(options);
  if (!load.Start()) {
    fmt::print(stderr, "vhost_blk_load: no working device at {}\n", options.socket);
    return 1;
  }
  const double rate = options.fill && !load.Fill() ? -1 : load.Run();
  if (rate < 0) {
    fmt::print(stderr, "vhost_blk_load: a request failed\n");
    return 1;
  }
  fmt::print("{}\n", nlohmann::json{{"ios_per_second", rate}}.dump());
  return 0;
}

}  // namespace
}  // namespace sma::bench

int main(int argc, char** argv) { return sma::bench::Main(argc, argv); }
