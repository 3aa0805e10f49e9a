// SPDX-License-Identifier: Apache-2.0

#include <sched.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/str_format.h"
#include "sma_nvme/commands.h"
#include "sma_nvme/io_loop.h"

namespace sma::sma_nvme {

using storage_target::initiator::NamespaceInfo;
using storage_target::initiator::QueuePair;
using storage_target::nvme::IoOpcode;

namespace {

absl::Status PinToCpu(int cpu) {
  if (cpu < 0) return absl::OkStatus();
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) {
    return absl::InvalidArgumentError(absl::StrFormat("cannot run on cpu %d", cpu));
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const PerfOptions& options, const NamespaceInfo& info,
                          const storage_target::initiator::Controller& controller) {
  if (options.io_bytes == 0 || options.io_bytes % info.block_size != 0) {
    return absl::InvalidArgumentError("--io-size must be a multiple of the block size");
  }
  if (options.io_bytes > controller.info().max_transfer_bytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the controller's largest I/O size is %u bytes", controller.info().max_transfer_bytes));
  }
  if (options.io_bytes / info.block_size > info.block_count) {
    return absl::InvalidArgumentError("--io-size exceeds the size of the namespace");
  }
  if (options.connections > controller.io_queue_count()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the controller allows %u connections", controller.io_queue_count()));
  }
  // One entry of a queue always remains free.
  if (options.depth >= controller.info().max_queue_entries) {
    return absl::InvalidArgumentError(absl::StrFormat("the controller's largest depth is %u",
                                                      controller.info().max_queue_entries - 1));
  }
  return absl::OkStatus();
}

// A fast random generator that selects the next I/O; the sequence is the same in each run.
class Workload {
 public:
  Workload(const PerfOptions& options, const NamespaceInfo& info)
      : options_(options), io_count_(info.block_count / (options.io_bytes / info.block_size)) {}

  void Prepare(IoLoop& loop, IoLoop::Slot& slot) {
    uint64_t io = options_.sequential ? next_++ % io_count_ : random_() % io_count_;
    bool read = options_.read_percent == 100 ||
                (options_.read_percent > 0 && random_() % 100 < options_.read_percent);
    loop.Prepare(slot, read ? IoOpcode::kRead : IoOpcode::kWrite, io * loop.blocks_per_io());
  }

 private:
  const PerfOptions& options_;
  const uint64_t io_count_;
  uint64_t next_ = 0;
  std::minstd_rand random_;
};

struct Measured {
  uint64_t ns = 0;
  LatencyHistogram latencies;
};

absl::StatusOr<Measured> Measure(IoLoop& loop, const NamespaceInfo& info,
                                 const PerfOptions& options) {
  Workload workload(options, info);
  const uint64_t start_ns = NowNs();
  const uint64_t measured_from_ns = start_ns + static_cast<uint64_t>(options.warm_up_seconds * 1e9);
  const uint64_t end_ns = measured_from_ns + static_cast<uint64_t>(options.seconds * 1e9);
  bool warm = false;
  uint64_t first_ns = 0;
  Measured measured;
  absl::Status status = loop.Run(
      [&](IoLoop::Slot& slot) {
        if (loop.now_ns() >= end_ns) return false;
        workload.Prepare(loop, slot);
        return true;
      },
      [&](IoLoop::Slot&) {
        if (!warm && loop.now_ns() >= measured_from_ns) {
          warm = true;
          first_ns = loop.now_ns();
          loop.ClearLatencies();
        } else if (measured.ns == 0 && loop.now_ns() >= end_ns) {
          // I/Os that complete later were submitted within the time, but are not counted.
          measured = {loop.now_ns() - first_ns, loop.latencies()};
        }
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  if (measured.ns == 0) return absl::InternalError("no I/O completed within the time");
  return measured;
}

void PrintJson(const PerfOptions& options, const RemoteOptions& remote, const Measured& measured) {
  const double seconds = static_cast<double>(measured.ns) / 1e9;
  const LatencyHistogram& latencies = measured.latencies;
  auto percentile_us = [&](double percent) {
    return static_cast<double>(latencies.PercentileNs(percent)) / 1e3;
  };
  const double rate = static_cast<double>(latencies.count()) / seconds;
  nlohmann::json result{{"io_bytes", options.io_bytes},
                        {"depth", options.depth},
                        {"connections", options.connections},
                        {"read_percent", options.read_percent},
                        {"sequential", options.sequential},
                        {"header_digest", remote.header_digest},
                        {"data_digest", remote.data_digest},
                        {"seconds", seconds},
                        {"ios", latencies.count()},
                        {"ios_per_second", rate},
                        {"bytes_per_second", rate * options.io_bytes},
                        {"latency_us",
                         {{"mean", latencies.mean_ns() / 1e3},
                          {"p50", percentile_us(50)},
                          {"p90", percentile_us(90)},
                          {"p99", percentile_us(99)},
                          {"p99_9", percentile_us(99.9)},
                          {"max", static_cast<double>(latencies.max_ns()) / 1e3}}}};
  absl::PrintF("%s\n", result.dump(2));
}

void PrintText(const PerfOptions& options, const Measured& measured) {
  const double seconds = static_cast<double>(measured.ns) / 1e9;
  const LatencyHistogram& latencies = measured.latencies;
  const double rate = static_cast<double>(latencies.count()) / seconds;
  auto us = [](auto ns) { return static_cast<double>(ns) / 1e3; };
  absl::PrintF("%.0f I/Os per second, %.1f MiB/s\n", rate, rate * options.io_bytes / (1 << 20));
  absl::PrintF("latency: mean %.1f us, median %.1f us, 99th %.1f us, 99.9th %.1f us, max %.1f us\n",
               us(latencies.mean_ns()), us(latencies.PercentileNs(50)),
               us(latencies.PercentileNs(99)), us(latencies.PercentileNs(99.9)),
               us(latencies.max_ns()));
}

}  // namespace

absl::Status Perf(const RemoteOptions& remote, const PerfOptions& options) {
  if (absl::Status status = PinToCpu(options.cpu); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<Session>> session =
      Session::Open(remote, static_cast<uint16_t>(options.connections));
  if (!session.ok()) return session.status();
  absl::StatusOr<std::vector<NamespaceInfo>> namespaces = (*session)->ListNamespaces();
  if (!namespaces.ok()) return namespaces.status();
  absl::StatusOr<NamespaceInfo> info = ChooseNamespace(*namespaces, options.namespace_name);
  if (!info.ok()) return info.status();
  absl::Status status = CheckOptions(options, *info, (*session)->controller());
  if (!status.ok()) return status;

  std::vector<std::unique_ptr<QueuePair>> queues;
  for (uint32_t i = 1; i <= options.connections; ++i) {
    absl::StatusOr<std::unique_ptr<QueuePair>> queue =
        (*session)->OpenQueue(static_cast<uint16_t>(i), static_cast<uint16_t>(options.depth + 1));
    if (!queue.ok()) return queue.status();
    queues.push_back(std::move(*queue));
  }
  IoLoop loop(**session, *info,
              {.io_bytes = options.io_bytes, .depth = options.depth, .spin = options.spin},
              std::move(queues));
  absl::StatusOr<Measured> measured = Measure(loop, *info, options);
  if (!measured.ok()) return measured.status();
  if (options.json) {
    PrintJson(options, remote, *measured);
  } else {
    PrintText(options, *measured);
  }
  return absl::OkStatus();
}

}  // namespace sma::sma_nvme
