#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/uuid.h"
#include "target/nvmf/target.h"
#include "target/nvmf/vfio_user/data_pointer.h"
#include "target/nvmf/vfio_user/doorbells.h"
#include "target/nvmf/vfio_user/interrupt_moderation.h"
#include "target/nvmf/vfio_user/options.h"
#include "target/nvmf/vfio_user/submission_queue.h"
#include "target/nvmf/vfio_user/unshared_data.h"
#include "target/reactor/reactor.h"
#include "target/vfio_user/device.h"
#include "target/vfio_user/pci_config.h"

namespace sma::target::nvmf::vfio_user {

/// BAR 0: registers and one page of doorbells. BAR 4: the MSI-X table and, behind it, the PBA.
inline constexpr uint32_t kBar0Bytes = 0x2000;
inline constexpr uint32_t kBar4Bytes = 0x4000;
inline constexpr uint32_t kPbaOffset = 0x3000;

/// An NVMe controller as a PCI function (NVMe over PCIe Transport 1.0): configuration space,
/// registers, doorbells, queues in the host's memory. While it is enabled it is an association with
/// its subsystem as any other host's; a reset ends that. Belongs to one reactor.
///
/// While there is work the doorbells are polled; without it for as long as the reactor polls, the
/// function waits for the host's messages and costs nothing (unless the host maps the doorbells).
///
/// What a host may not do with registers or rings sets CSTS.CFS, and nothing happens until it
/// resets the controller; a command that is wrong is answered with its status.
class NvmeFunction final : public target::vfio_user::Device, private Poller {
 public:
  /// `address` is the listener's.
  NvmeFunction(Target& target, Reactor& reactor, const Options& options, TransportAddress address,
               std::string subsystem_nqn);
  /// After Reset.
  ~NvmeFunction() override;
  NvmeFunction(const NvmeFunction&) = delete;
  NvmeFunction& operator=(const NvmeFunction&) = delete;

  // From any thread: constant.
  Target& target() const { return target_; }
  Reactor& reactor() const { return reactor_; }
  const TransportLimits& limits() const { return options_.limits; }
  const TransportAddress& address() const { return address_; }

  // target::vfio_user::Device
  const std::string& name() const override { return address_.address; }
  target::vfio_user::Region DescribeRegion(uint32_t index) const override;
  bool ReadRegion(uint32_t index, uint64_t offset, std::span<std::byte> out) override;
  bool WriteRegion(uint32_t index, uint64_t offset, std::span<const std::byte> data) override;
  target::vfio_user::Interrupts& interrupts() override { return interrupts_; }
  DmaMap& memory() override { return memory_; }
  void SetMessages(target::vfio_user::DmaMessages* messages) override {
    unshared_data_.SetMessages(messages);
  }
  void Pause(std::function<void()> done) override;
  void Resume() override;
  void Reset(std::function<void()> done) override;

  // For the submission queues.
  bool takes_commands() const { return state_ == State::kReady && !failed_ && !paused_; }
  Doorbells& doorbells() { return doorbells_; }
  UnsharedData& unshared_data() { return unshared_data_; }
  /// True when the command is one of the function's own; it is answered by SubmissionQueue::Finish,
  /// now or later.
  bool ExecuteAdmin(SubmissionQueue& admin, MemoryRequest& request);
  /// Whether a completion can be posted, after a look at the host's doorbell.
  bool MakeRoom(CompletionQueue& queue);
  void Post(CompletionQueue& queue, const nvme::Completion& completion);
  /// Interrupts for what was posted, and completions that wait, at the end of the round.
  void ScheduleFlush();
  /// The admin queue pair is closed, whoever did that.
  void OnAdminQueueClosed();
  void OnQueueGone(SubmissionQueue& queue);
  /// The host has done what it may not.
  void Fail(std::string_view reason);

 private:
  struct Flusher : Deferred {
    NvmeFunction* function = nullptr;
  };
  enum class State { kDisabled, kEnabling, kReady, kStopping };

  // nvme_function.cc: work.
  bool Poll() override;
  bool PrepareSleep() override;
  void AfterSleep() override;
  bool HasWork() const;
  bool CheckMemory();
  void BeginPolling();
  void EndPolling();
  void Kick();
  void Flush();
  void DrainWaiting(CompletionQueue& queue);
  void Announce(CompletionQueue& queue);
  void AnnounceAll();
  void UpdateIntx();
  void FindRings();
  std::byte* FindRing(uint64_t address, uint64_t size_bytes, DmaAccessMode mode) const;
  void CheckPaused();

  // function_registers.cc
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

  // function_queues.cc
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

  target::vfio_user::PciConfig config_;
  target::vfio_user::Interrupts interrupts_;
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
  uint64_t shadow_address_ = 0;  // 0: the host has given none
  uint64_t event_index_address_ = 0;

  // By queue id; 0 is the admin queue. Few, and looked at in every round.
  std::map<uint16_t, std::unique_ptr<CompletionQueue>> completion_queues_;
  std::map<uint16_t, std::unique_ptr<SubmissionQueue>> submission_queues_;
  // Admin commands that OnQueueGone answers, by the id of the queue.
  struct Ending {
    MemoryRequest* request;
    nvme::Status status;
  };
  std::map<uint16_t, Ending> ending_;

  Flusher flusher_;
  bool polling_ = false;  // in the reactor's list of pollers
  bool in_poll_ = false;  // flushes at its end
  bool unflushed_ = false;
  uint64_t poll_ns_ = 0;
  uint64_t last_work_ns_ = 0;
  uint32_t seen_bus_errors_ = 0;
};

}  // namespace sma::target::nvmf::vfio_user
