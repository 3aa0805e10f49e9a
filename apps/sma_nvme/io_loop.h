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
#include "target/bdev_modules/nvme/initiator/queue_pair.h"

namespace sma::sma_nvme {

/// Monotonic nanoseconds.
uint64_t NowNs();

/// Keeps queue pairs filled with reads and writes from this thread: each I/O that ends makes room
/// for the next.
class IoLoop {
 public:
  /// One I/O under way, with a buffer of its own.
  struct Slot : target::initiator::Request {
    IoLoop* loop = nullptr;
    target::initiator::QueuePair* queue = nullptr;
    std::span<std::byte> buffer;
    iovec iov;
    uint64_t lba = 0;
    uint64_t start_ns = 0;
  };
  struct Options {
    uint32_t io_bytes = 0;  // a multiple of the block size
    uint32_t depth = 1;     // for each queue
    bool spin = true;       // false: sleep while nothing comes
  };

  IoLoop(Session& session, const target::initiator::NamespaceInfo& info, const Options& options,
         std::vector<std::unique_ptr<target::initiator::QueuePair>> queues);
  ~IoLoop();
  IoLoop(const IoLoop&) = delete;
  IoLoop& operator=(const IoLoop&) = delete;

  /// What the slot is to do next: sets `lba` and the opcode with Prepare and, for a write, the
  /// buffer. False: nothing more.
  using Next = std::function<bool(Slot& slot)>;
  /// Looks at an I/O that succeeded; an error ends the run.
  using Check = std::function<absl::Status(Slot& slot)>;

  /// Runs until `next` says no for every slot and all has ended, or until an I/O fails.
  absl::Status Run(const Next& next, const Check& check);

  void Prepare(Slot& slot, target::nvme::IoOpcode opcode, uint64_t lba) const;

  /// Of the I/Os since the last Clear.
  const LatencyHistogram& latencies() const { return latencies_; }
  void ClearLatencies() { latencies_ = {}; }
  /// The clock as of this turn of the loop.
  uint64_t now_ns() const { return now_ns_; }
  uint32_t blocks_per_io() const { return blocks_per_io_; }

 private:
  static void OnDone(target::initiator::Request& request,
                     const target::nvme::Completion& completion);
  void Finish(Slot& slot, const target::nvme::Completion& completion);
  void StartNext(Slot& slot);
  bool PollQueues();
  void Sleep();

  Session& session_;
  const target::initiator::NamespaceInfo info_;
  const Options options_;
  const uint32_t blocks_per_io_;
  std::vector<std::unique_ptr<target::initiator::QueuePair>> queues_;
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
