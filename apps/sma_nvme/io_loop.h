// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "sma_nvme/latency.h"
#include "sma_nvme/session.h"
#include "storage_target/bdev_modules/nvme/initiator/queue_pair.h"

namespace sma::sma_nvme {

/// Returns the monotonic clock in nanoseconds.
uint64_t NowNs();

/// Keeps queue pairs filled with reads and writes: each completed I/O is replaced by the next one.
/// Runs on the calling thread.
class IoLoop {
 public:
  /// An outstanding I/O with its own buffer.
  struct Slot : storage_target::initiator::Request {
    IoLoop* loop = nullptr;
    storage_target::initiator::QueuePair* queue = nullptr;
    std::span<std::byte> buffer;
    iovec iov;
    uint64_t lba = 0;
    uint64_t start_ns = 0;
  };
  struct Options {
    uint32_t io_bytes = 0;  // a multiple of the block size
    uint32_t depth = 1;     // for each queue
    bool spin = true;       // false: sleep while waiting
  };

  IoLoop(Session& session, const storage_target::initiator::NamespaceInfo& info,
         const Options& options,
         std::vector<std::unique_ptr<storage_target::initiator::QueuePair>> queues);
  ~IoLoop();
  IoLoop(const IoLoop&) = delete;
  IoLoop& operator=(const IoLoop&) = delete;

  /// Prepares the next I/O of the slot: sets `lba`, the opcode with Prepare and, for a write, the
  /// buffer. Returns false if there is no further I/O.
  using Next = std::function<bool(Slot& slot)>;
  /// Checks an I/O that has succeeded; an error ends the run.
  using Check = std::function<absl::Status(Slot& slot)>;

  /// Runs until `next` has returned false for every slot and all I/Os have completed, or until an
  /// I/O fails.
  absl::Status Run(const Next& next, const Check& check);

  void Prepare(Slot& slot, storage_target::nvme::IoOpcode opcode, uint64_t lba) const;

  /// Returns the latencies of the I/Os since the last Clear.
  const LatencyHistogram& latencies() const { return latencies_; }
  void ClearLatencies() { latencies_ = {}; }
  /// Returns the time at the start of this iteration of the loop, in nanoseconds.
  uint64_t now_ns() const { return now_ns_; }
  uint32_t blocks_per_io() const { return blocks_per_io_; }

 private:
  static void OnDone(storage_target::initiator::Request& request,
                     const storage_target::nvme::Completion& completion);
  void Finish(Slot& slot, const storage_target::nvme::Completion& completion);
  void StartNext(Slot& slot);
  bool PollQueues();
  void Sleep();

  Session& session_;
  const storage_target::initiator::NamespaceInfo info_;
  const Options options_;
  const uint32_t blocks_per_io_;
  std::vector<std::unique_ptr<storage_target::initiator::QueuePair>> queues_;
  std::unique_ptr<std::byte[], void (*)(void*)> memory_;
  std::vector<Slot> slots_;
  uint64_t now_ns_ = 0;
  bool clock_is_fresh_ = false;
  uint32_t under_way_ = 0;
  const Next* next_ = nullptr;
  const Check* check_ = nullptr;
  absl::Status status_;
  LatencyHistogram latencies_;
};

}  // namespace sma::sma_nvme
