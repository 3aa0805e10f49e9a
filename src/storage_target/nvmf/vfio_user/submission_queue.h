// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <string>

#include "base/uuid.h"
#include "storage_target/bdev/turn.h"
#include "storage_target/nvme/fabrics.h"
#include "storage_target/nvmf/transport_queue_pair.h"
#include "storage_target/nvmf/vfio_user/completion_queue.h"
#include "storage_target/nvmf/vfio_user/memory_request.h"

namespace sma::storage_target::nvmf::vfio_user {

class NvmeFunction;

/// A submission queue in the host's memory, which is also the queue pair that executes its
/// commands. Created and destroyed by its function, in whose reactor everything runs. The path of a
/// command neither allocates nor blocks.
class SubmissionQueue final : public TransportQueuePair {
 public:
  struct Options {
    uint16_t id = 0;
    uint32_t size = 0;  // entries, at least 2
    uint64_t address = 0;
  };

  SubmissionQueue(NvmeFunction& function, CompletionQueue& completions, const Options& options);
  ~SubmissionQueue() override;

  const Options& options() const { return options_; }
  CompletionQueue& completions() const { return completions_; }
  uint64_t size_bytes() const { return uint64_t{options_.size} * sizeof(nvme::Command); }
  /// Sets the address of the ring in this process; null while the memory is not mapped.
  void SetRing(const std::byte* ring) { ring_ = ring; }

  /// The identity of the host and the controller to which the queue belongs.
  struct Identity {
    std::string subsystem_nqn;
    base::Uuid host_id;
    uint16_t controller_id = nvme::ConnectData::kAnyControllerId;
  };
  /// Connects to the subsystem as a host does; calls `done` with the status unless the queue is
  /// closed first.
  void Connect(const Identity& identity, std::function<void(nvme::Status)> done);
  /// Takes no more commands and posts no more completions. Notifies the function when it may
  /// destroy the queue. Idempotent.
  void Disconnect() override;
  /// Returns true if no command is being executed outside of the queue.
  bool is_idle() const { return idle(); }
  /// Aborts all commands, those that wait for their data when it has arrived.
  void AbortCommands() {
    VisitRequests([](Request& request) { AbortIo(request); });
  }

  /// Tell the host, through the event index of the shadow doorbell, whether it must ring the
  /// doorbell for the next command.
  void RequestEvents();
  void SuppressEvents();
  /// Returns true if TakeCommands would take any.
  bool HasCommands() const;
  /// Takes new commands, as far as there is room for their completions and `turn` has bytes left;
  /// if `turn` is null, their size is not limited. Returns true if there were any.
  bool TakeCommands(bdev::Turn* turn);
  /// Posts a completion that waited for room.
  void PostWaiting(MemoryRequest& request);
  /// Continues a command that was waiting for a buffer.
  void OnBuffer(MemoryRequest& request);
  /// Called when the data of a command has been received into its buffer or sent to the host; with
  /// an error, the command completes with that status.
  void OnDataMoved(MemoryRequest& request, nvme::Status status);
  /// Returns the number of outstanding commands that use the host's memory.
  uint32_t located_count() const { return located_count_; }

  /// Completes a command that the function executed itself.
  void Finish(MemoryRequest& request, nvme::Status status, uint64_t result = 0) {
    Complete(request, status, result);
  }

  /// The host NQN of all VMMs, with which a subsystem can allow them.
  static constexpr char kHostNqn[] = "nqn.2016-06.io.spdk:vfiouser-host";

 private:
  bool AcquireBuffer(Request& base) override;
  void KeepData(Request& /*request*/) override {}
  void OnConnected() override {}
  bool Abort(uint16_t cid) override;
  void VisitRequests(void (*visit)(Request& request)) override;
  void ProcessReceived() override;
  nvme::Status LocateData(Request& request) override;
  void ReceiveData(Request& base) override;
  void Respond(Request& request) override;
  void OnDetached() override;

  MemoryRequest& RequestAt(uint32_t index) {
    return *std::launder(reinterpret_cast<MemoryRequest*>(slots_[index].bytes.data()));
  }
  bool has_free_request() const { return free_ != nullptr || request_count_ < request_limit_; }
  MemoryRequest& TakeFreeRequest();
  void Begin(MemoryRequest& request);
  bool MovesToHost(const MemoryRequest& request) const;
  void PostCompletion(MemoryRequest& request);
  void ReleaseMemory(MemoryRequest& request);
  void Free(MemoryRequest& request);

  NvmeFunction& function_;
  CompletionQueue& completions_;
  const Options options_;
  const std::byte* ring_ = nullptr;
  uint32_t head_ = 0;

  // Requests are created when they are first needed: a guest that creates many large queues would
  // otherwise make the reactor write to megabytes of memory for each.
  struct Slot {
    alignas(MemoryRequest) std::array<std::byte, sizeof(MemoryRequest)> bytes;
  };
  const uint32_t request_limit_;
  const std::unique_ptr<Slot[]> slots_;
  uint32_t request_count_ = 0;  // created, in the first slots
  MemoryRequest* free_ = nullptr;
  uint32_t located_count_ = 0;

  Request connect_;
  nvme::ConnectData connect_data_;
  iovec connect_iov_{};
  std::function<void(nvme::Status)> on_connected_;
};

}  // namespace sma::storage_target::nvmf::vfio_user
