#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/uuid.h"
#include "target/nvme/fabrics.h"
#include "target/nvmf/transport_queue_pair.h"
#include "target/nvmf/vfio_user/completion_queue.h"
#include "target/nvmf/vfio_user/memory_request.h"

namespace sma::target::nvmf::vfio_user {

class NvmeFunction;

/// A submission queue in the host's memory, and as a queue pair what executes its commands. Made
/// and destroyed by its function, in whose reactor everything runs. Nothing in the way of a command
/// allocates or blocks.
class SubmissionQueue final : public TransportQueuePair {
 public:
  struct Options {
    uint16_t id = 0;
    uint32_t size = 0;  // entries, 2 or more
    uint64_t address = 0;
  };

  SubmissionQueue(NvmeFunction& function, CompletionQueue& completions, const Options& options);
  ~SubmissionQueue() override;

  const Options& options() const { return options_; }
  CompletionQueue& completions() const { return completions_; }
  uint64_t size_bytes() const { return uint64_t{options_.size} * sizeof(nvme::Command); }
  /// Where it is in this process; null while the memory is not mapped.
  void SetRing(const std::byte* ring) { ring_ = ring; }

  /// Who the host is, and which controller the queue is for.
  struct Identity {
    std::string subsystem_nqn;
    base::Uuid host_id;
    uint16_t controller_id = nvme::ConnectData::kAnyControllerId;
  };
  /// Connects to the subsystem as a host would; `done` gets the answer unless the queue is closed
  /// before.
  void Connect(const Identity& identity, std::function<void(nvme::Status)> done);
  /// Takes no more commands and answers none; the function is told when it may destroy this. Again:
  /// nothing.
  void Disconnect() override;

  /// Whether the host, by its shadow doorbells, is to tell of the next command or need not.
  void RequestEvents();
  void SuppressEvents();
  /// Whether TakeCommands would take some.
  bool HasCommands() const;
  /// Takes new commands, as far as there is room to answer them. True when there were some.
  bool TakeCommands();
  /// A completion that waited for room has got it.
  void PostWaiting(MemoryRequest& request);
  /// A command that waited for a buffer has one.
  void OnBuffer(MemoryRequest& request);
  /// The data of a command are in its buffer, or have gone from there to the host; or they have
  /// not, and the command ends with this status.
  void OnDataMoved(MemoryRequest& request, nvme::Status status);
  /// Commands under way that use the host's memory.
  uint32_t located_count() const { return located_count_; }

  /// Ends a command that the function executes itself.
  void Finish(MemoryRequest& request, nvme::Status status, uint64_t result = 0) {
    Complete(request, status, result);
  }

  /// The host's NQN, by which it may be let in.
  static constexpr char kHostNqn[] = "nqn.2016-06.io.spdk:vfiouser-host";

 private:
  bool AcquireBuffer(Request& base) override;
  void KeepData(Request& /*request*/) override {}
  void OnConnected() override {}
  bool Abort(uint16_t cid) override;
  void VisitRequests(void (*visit)(Request& request)) override;
  void CatchUp() override;
  nvme::Status LocateData(Request& request) override;
  void ReceiveData(Request& base) override;
  void Respond(Request& request) override;
  void OnDetached() override;

  void Begin(MemoryRequest& request);
  bool MovesToHost(const MemoryRequest& request) const;
  void Answer(MemoryRequest& request);
  void ReleaseMemory(MemoryRequest& request);
  void Free(MemoryRequest& request);

  NvmeFunction& function_;
  CompletionQueue& completions_;
  const Options options_;
  const std::byte* ring_ = nullptr;
  uint32_t head_ = 0;

  const uint32_t request_count_;
  const std::unique_ptr<MemoryRequest[]> requests_;
  MemoryRequest* free_ = nullptr;
  uint32_t located_count_ = 0;

  Request connect_;
  nvme::ConnectData connect_data_;
  iovec connect_iov_{};
  std::function<void(nvme::Status)> on_connected_;
};

}  // namespace sma::target::nvmf::vfio_user
