// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/uuid.h"
#include "storage_target/bdev/turn.h"
#include "storage_target/nvmf/target.h"
#include "storage_target/nvmf/vfio_user/data_pointer.h"
#include "storage_target/nvmf/vfio_user/doorbells.h"
#include "storage_target/nvmf/vfio_user/interrupt_moderation.h"
#include "storage_target/nvmf/vfio_user/options.h"
#include "storage_target/nvmf/vfio_user/submission_queue.h"
#include "storage_target/nvmf/vfio_user/unshared_data.h"
#include "storage_target/reactor/peer_watch.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/vfio_user/device.h"
#include "storage_target/vfio_user/pci_config.h"

namespace sma::storage_target::nvmf::vfio_user {

/// BAR 0 contains the registers and one page of doorbells. BAR 4 contains the MSI-X table followed
/// by the PBA.
inline constexpr uint32_t kBar0Bytes = 0x2000;
inline constexpr uint32_t kBar4Bytes = 0x4000;
inline constexpr uint32_t kPbaOffset = 0x3000;

/// An NVMe controller as a PCI function (NVMe over PCIe Transport 1.0): configuration space,
/// registers, doorbells, and queues in the host's memory. While enabled, it is an association with
/// its subsystem like that of any other host; a reset ends the association. Owned by one reactor.
///
/// The doorbells are polled while there is work. After the reactor's polling time without work the
/// function waits for messages from the host and uses no CPU time (unless the host maps the
/// doorbells).
///
/// If the host violates the specification in its use of registers or rings, the function sets
/// CSTS.CFS and does nothing until the host resets the controller. An invalid command only
/// completes with an error status.
class NvmeFunction final : public storage_target::vfio_user::Device,
                           private Poller,
                           private DelayWatch {
 public:
  /// `address` is that of the listener.
  NvmeFunction(Target& target, Reactor& reactor, const Options& options, TransportAddress address,
               std::string subsystem_nqn);
  /// May be called only after Reset.
  ~NvmeFunction() override;
  NvmeFunction(const NvmeFunction&) = delete;
  NvmeFunction& operator=(const NvmeFunction&) = delete;

  // Constant; may be called from any thread.
  Target& target() const { return target_; }
  Reactor& reactor() const { return reactor_; }
  const TransportLimits& limits() const { return options_.limits; }
  const TransportAddress& address() const { return address_; }

  // Implementation of storage_target::vfio_user::Device.
  const std::string& name() const override { return address_.address; }
  storage_target::vfio_user::Region DescribeRegion(uint32_t index) const override;
  bool ReadRegion(uint32_t index, uint64_t offset, std::span<std::byte> out) override;
  bool WriteRegion(uint32_t index, uint64_t offset, std::span<const std::byte> data) override;
  storage_target::vfio_user::Interrupts& interrupts() override { return interrupts_; }
  DmaMap& memory() override { return memory_; }
  void SetMessages(storage_target::vfio_user::DmaMessages* messages) override {
    unshared_data_.SetMessages(messages);
    if (client_watch_) reactor_.RemoveDelayWatch(this);
    client_watch_.reset();
    if (messages == nullptr) return;
    client_watch_.emplace(messages->socket());
    reactor_.AddDelayWatch(this);
  }
  void Pause(std::function<void()> done) override;
  void Resume() override;
  void Reset(std::function<void()> done) override;

  // Called by submission queues.
  bool takes_commands() const { return state_ == State::kReady && !failed_ && !paused_; }
  /// Returns true if commands found in the queues now may be executed (see PeerWatch).
  bool MayExecute() { return client_watch_ && client_watch_->MayExecute(reactor_.now_ns()); }
  Doorbells& doorbells() { return doorbells_; }
  UnsharedData& unshared_data() { return unshared_data_; }
  /// Returns true if the function executes the command itself; it then completes the command with
  /// SubmissionQueue::Finish, possibly later.
  bool ExecuteAdmin(SubmissionQueue& admin, MemoryRequest& request);
  /// Returns true if a completion can be posted; reads the host's doorbell if necessary.
  bool MakeRoom(CompletionQueue& queue);
  void Post(CompletionQueue& queue, const nvme::Completion& completion);
  /// Schedules interrupts for posted completions, and posting of waiting completions, at the end of
  /// the round.
  void ScheduleFlush();
  /// Must be called when the admin queue pair is closed by either side.
  void OnAdminQueueClosed();
  void OnQueueDetached(SubmissionQueue& queue);
  /// Sets CSTS.CFS after a violation by the host.
  void Fail(std::string_view reason);

 private:
  struct Flusher : Deferred {
    NvmeFunction* function = nullptr;
  };
  enum class State { kDisabled, kEnabling, kReady, kStopping };

  // Implemented in nvme_function.cc: polling, completions and interrupts.
  bool Poll() override;
  void OnDelay(uint64_t clock_ns) override;
  bool TakeCommands();
  bool PrepareSleep() override;
  void AfterSleep() override;
  bool HasWork() const;
  bool CheckMemory();
  void BeginPolling();
  void EndPolling();
  void PollOnEvent();
  void Flush();
  void DrainWaiting(CompletionQueue& queue);
  void RaiseInterrupt(CompletionQueue& queue);
  void RaiseInterrupts();
  void UpdateIntx();
  void FindRings();
  std::byte* FindRing(uint64_t address, uint64_t size_bytes, DmaAccessMode mode) const;
  void CheckPaused();

  // Implemented in function_registers.cc.
  bool ReadRegister(uint64_t offset, std::span<std::byte> out) const;
  bool WriteRegister(uint64_t offset, std::span<const std::byte> data);
  bool WriteDoorbell(uint64_t offset, std::span<const std::byte> data);
  void WriteConfiguration(uint32_t value);
  void OnConfigWritten();
  void Enable();
  void OnAdminConnected(nvme::Status status);
  void Stop();
  void OnStopped();
  void ShutDown();
  void CheckShutDown();
  void ClearRegisters();

  // Implemented in function_queues.cc.
  nvme::Status CreateCompletionQueue(const nvme::Command& command);
  nvme::Status DeleteCompletionQueue(uint16_t id);
  nvme::Status CheckNewQueue(const nvme::Command& command, bool exists) const;
  void CreateSubmissionQueue(SubmissionQueue& admin, MemoryRequest& request);
  void DeleteSubmissionQueue(SubmissionQueue& admin, MemoryRequest& request);
  nvme::Status ConfigureDoorbellBuffer(const nvme::Command& command);
  bool ExecuteFeature(SubmissionQueue& admin, MemoryRequest& request);
  CompletionQueue* FindCompletionQueue(uint16_t id);
  SubmissionQueue* FindSubmissionQueue(uint16_t id);

  Target& target_;
  Reactor& reactor_;
  const Options options_;
  const TransportAddress address_;
  const std::string subsystem_nqn_;
  const base::Uuid host_id_;
  const uint64_t cap_;

  storage_target::vfio_user::PciConfig config_;
  storage_target::vfio_user::Interrupts interrupts_;
  DmaMap memory_;
  UnsharedData unshared_data_;
  Doorbells doorbells_;
  InterruptModeration moderation_;
  std::vector<std::byte> msix_table_;

  // Registers.
  uint32_t cc_ = 0;
  uint32_t csts_ = 0;
  uint32_t intms_ = 0;
  uint32_t aqa_ = 0;
  uint64_t asq_ = 0;
  uint64_t acq_ = 0;

  State state_ = State::kDisabled;
  bool failed_ = false;
  bool paused_ = false;
  std::function<void()> when_paused_;
  std::vector<std::function<void()>> when_reset_;
  uint64_t shadow_address_ = 0;  // 0: not configured
  uint64_t event_index_address_ = 0;

  // Keyed by queue ID; 0 is the admin queue. There are few of them, and every round visits all of
  // them.
  std::map<uint16_t, std::unique_ptr<CompletionQueue>> completion_queues_;
  std::map<uint16_t, std::unique_ptr<SubmissionQueue>> submission_queues_;
  // Admin commands that OnQueueDetached completes, keyed by the ID of the queue.
  struct Ending {
    MemoryRequest* request;
    nvme::Status status;
  };
  std::map<uint16_t, Ending> ending_;

  Flusher flusher_;
  bool polling_ = false;  // registered as a poller of the reactor
  bool in_poll_ = false;  // Poll flushes at its end
  bool unflushed_ = false;
  std::optional<PeerWatch> client_watch_;  // while there is a client
  uint64_t poll_ns_ = 0;
  uint64_t last_work_ns_ = 0;
  uint64_t event_poll_ns_ = 0;  // the round of the last poll by PollOnEvent
  bdev::Turn turn_;             // shared by all queues
  uint16_t next_queue_ = 0;     // the first to take commands in the next poll
  uint32_t seen_bus_errors_ = 0;
};

}  // namespace sma::storage_target::nvmf::vfio_user
