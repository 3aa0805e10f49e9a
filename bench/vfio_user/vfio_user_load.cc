// SPDX-License-Identifier: Apache-2.0

// Measures an NVMe controller over vfio-user, used in the same way as by a guest's driver, with
// polling and shadow doorbells. With --limit, the controller is a thread in this program that takes
// the same commands from the same rings, copies the same bytes, and posts completions. The result
// is the upper bound for this host.

#include <sched.h>
#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstring>
#include <iostream>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "harness/vfio_user/client.h"
#include "harness/vfio_user/nvme_driver.h"
#include "storage_target/virtio/shared_fields.h"

namespace {

using sma::harness::GuestBuffer;
using sma::harness::GuestRam;
using sma::harness::NvmeDriver;
using sma::harness::NvmeQueue;
using sma::harness::VfioUserClient;
using sma::storage_target::nvme::Command;
using sma::storage_target::nvme::Completion;
using sma::storage_target::nvme::IoOpcode;
using Clock = std::chrono::steady_clock;

constexpr uint32_t kBlock = 4096;
constexpr uint32_t kRingSize = 256;
constexpr uint64_t kRamAddress = 1 << 20;

struct Options {
  std::string socket;
  uint32_t queues = 1;
  uint32_t depth = 1;  // of each queue
  bool write = false;
  bool limit = false;
  double seconds = 2;
  uint64_t block_count = 0;
  int cpu = -1;
  int limit_cpu = -1;
};

void Pin(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

// Executes the commands, and is notified of new tails and heads.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual void Ring(const NvmeQueue& queue, bool tail) = 0;
};

class Controller final : public Backend {
 public:
  explicit Controller(NvmeDriver& driver) : driver_(driver) {}
  void Ring(const NvmeQueue& queue, bool tail) override {
    tail ? driver_.RingTail(queue) : driver_.RingHead(queue);
  }

 private:
  NvmeDriver& driver_;
};

// Memory like that of the target's memory disks: huge pages, if the kernel provides them.
class Medium {
 public:
  explicit Medium(size_t size_bytes) : size_bytes_(size_bytes) {
    void* memory =
        ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    ::madvise(memory, size_bytes, MADV_HUGEPAGE);
    std::memset(memory, 1, size_bytes);
    bytes_ = static_cast<std::byte*>(memory);
  }
  ~Medium() { ::munmap(bytes_, size_bytes_); }
  Medium(const Medium&) = delete;
  Medium& operator=(const Medium&) = delete;
  std::byte* data() const { return bytes_; }

 private:
  const size_t size_bytes_;
  std::byte* bytes_;
};

// A controller that only copies data.
class CopyingThread final : public Backend {
 public:
  CopyingThread(GuestRam& ram, const std::vector<std::unique_ptr<NvmeQueue>>& queues,
                const Options& options)
      : ram_(ram), medium_(options.block_count * kBlock), doorbells_(queues.size() * 2 + 2) {
    for (const auto& queue : queues) rings_.push_back({queue->id(), *queue});
    thread_ = std::thread([this, cpu = options.limit_cpu] {
      Pin(cpu);
      while (!stop_.load(std::memory_order_relaxed)) {
        for (Place& ring : rings_) Serve(ring);
      }
    });
  }
  ~CopyingThread() override {
    stop_ = true;
    thread_.join();
  }
  void Ring(const NvmeQueue& queue, bool tail) override {
    doorbells_[queue.id() * 2u + (tail ? 0 : 1)].store(tail ? queue.tail() : queue.head(),
                                                       std::memory_order_release);
  }

 private:
  struct Place {
    uint16_t id;
    const NvmeQueue& queue;
    uint32_t head = 0;
    uint32_t cq_tail = 0;
    uint16_t phase = 1;
  };

  void Serve(Place& ring) {
    const uint32_t tail = doorbells_[ring.id * 2u].load(std::memory_order_acquire);
    while (ring.head != tail) {
      Command command;
      std::memcpy(&command, ram_.At(ring.queue.sq_address()) + ring.head * sizeof command,
                  sizeof command);
      ring.head = (ring.head + 1) % ring.queue.sq_size();
      std::byte* block = medium_.data() + command.lba() * kBlock;
      std::byte* data = ram_.At(command.sgl.address);
      const bool write = command.opcode == static_cast<uint8_t>(IoOpcode::kWrite);
      std::memcpy(write ? block : data, write ? data : block, kBlock);
      Completion completion;
      completion.cid = command.cid;
      completion.status = ring.phase;
      std::byte* entry = ram_.At(ring.queue.cq_address()) + ring.cq_tail * sizeof completion;
      std::memcpy(entry, &completion, 12);
      uint32_t last;
      std::memcpy(&last, reinterpret_cast<std::byte*>(&completion) + 12, sizeof last);
      sma::storage_target::virtio::StoreRelease(*reinterpret_cast<uint32_t*>(entry + 12), last);
      ring.cq_tail = (ring.cq_tail + 1) % ring.queue.cq_size();
      if (ring.cq_tail == 0) ring.phase ^= 1;
    }
  }

  GuestRam& ram_;
  const Medium medium_;
  std::vector<std::atomic<uint32_t>> doorbells_;
  std::vector<Place> rings_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class Load {
 public:
  Load(GuestRam& ram, const Options& options) : options_(options) {
    for (uint32_t i = 0; i < options.queues; ++i) {
      queues.push_back(
          std::make_unique<NvmeQueue>(ram, static_cast<uint16_t>(i + 1), kRingSize, kRingSize));
      for (uint32_t slot = 0; slot < options.depth; ++slot)
        buffers_.push_back(ram.Allocate(kBlock, kBlock));
    }
  }

  std::vector<std::unique_ptr<NvmeQueue>> queues;

  // Returns the I/Os per second; a negative value if an I/O failed.
  double Run(Backend& backend) {
    for (size_t i = 0; i < queues.size(); ++i) {
      for (uint32_t slot = 0; slot < options_.depth; ++slot) Submit(i, slot);
      backend.Ring(*queues[i], true);
    }
    const auto start = Clock::now();
    const auto end = start + std::chrono::duration<double>(options_.seconds);
    uint64_t done = 0;
    auto now = start;
    while (now < end) {
      for (int round = 0; round < 64; ++round) {
        for (size_t i = 0; i < queues.size(); ++i) {
          const int64_t count = Reap(i, true, backend);
          if (count < 0) return -1;
          done += static_cast<uint64_t>(count);
        }
      }
      now = Clock::now();
    }
    const double elapsed = std::chrono::duration<double>(now - start).count();
    Drain(backend);
    return static_cast<double>(done) / elapsed;
  }

 private:
  void Submit(size_t queue, uint32_t slot) {
    Command command = sma::harness::IoCommand(options_.write ? IoOpcode::kWrite : IoOpcode::kRead,
                                              random_() % options_.block_count, 1);
    command.sgl.address = buffers_[queue * options_.depth + slot].guest_address;
    slots_[queue][queues[queue]->Push(command) % kRingSize] = slot;
  }

  int64_t Reap(size_t i, bool again, Backend& backend) {
    int64_t count = 0;
    while (auto completion = queues[i]->Poll()) {
      if (sma::storage_target::nvme::StatusOf(completion->status) !=
          sma::storage_target::nvme::Status::kSuccess)
        return -1;
      ++count;
      const uint32_t slot = slots_[i][completion->cid % kRingSize];
      if (again) Submit(i, slot);
    }
    if (count > 0) backend.Ring(*queues[i], false);
    if (count > 0 && again) backend.Ring(*queues[i], true);
    return count;
  }

  void Drain(Backend& backend) {
    int64_t left = static_cast<int64_t>(options_.queues) * options_.depth;
    const auto until = Clock::now() + std::chrono::seconds(5);
    while (left > 0 && Clock::now() < until) {
      for (size_t i = 0; i < queues.size(); ++i) left -= Reap(i, false, backend);
    }
  }

  const Options& options_;
  std::vector<GuestBuffer> buffers_;
  uint32_t slots_[8][kRingSize] = {};
  std::minstd_rand random_;
};

std::optional<double> RunAgainstTarget(GuestRam& ram, const Options& options) {
  VfioUserClient client;
  if (!client.Connect(options.socket) || !client.Negotiate() || client.Map(ram) != 0)
    return std::nullopt;
  NvmeDriver driver(client, ram);
  if (!driver.Enable() || !driver.UseShadowDoorbells()) return std::nullopt;
  Load load(ram, options);
  for (const auto& queue : load.queues) {
    if (!driver.Create(*queue)) return std::nullopt;
  }
  Controller controller(driver);
  return load.Run(controller);
}

double RunLimit(GuestRam& ram, const Options& options) {
  Load load(ram, options);
  CopyingThread thread(ram, load.queues, options);
  return load.Run(thread);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Measures 4 KiB I/O through an NVMe controller over vfio-user.");
  app.add_option("--socket", options.socket, "The controller's socket");
  app.add_option("--queues", options.queues)->check(CLI::Range(1, 8));
  app.add_option("--depth", options.depth, "Of each queue")->check(CLI::Range(1, 255));
  app.add_flag("--write", options.write);
  app.add_flag("--limit", options.limit, "Measure a ring that only copies instead");
  app.add_option("--seconds", options.seconds);
  app.add_option("--blocks", options.block_count, "Of the namespace, 4 KiB each")->required();
  app.add_option("--cpu", options.cpu);
  app.add_option("--limit-cpu", options.limit_cpu);
  CLI11_PARSE(app, argc, argv);
  GuestRam ram(64 << 20, kRamAddress, 0);
  Pin(options.cpu);
  std::optional<double> rate =
      options.limit ? RunLimit(ram, options) : RunAgainstTarget(ram, options);
  if (!rate || *rate < 0) {
    std::cerr << "vfio_user_load: the controller does not work\n";
    return EXIT_FAILURE;
  }
  std::cout << nlohmann::json({{"ios_per_s", *rate}}) << "\n";
  return EXIT_SUCCESS;
}
