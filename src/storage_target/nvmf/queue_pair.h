// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/intrusive_list.h"
#include "storage_target/nvmf/completion_sink.h"
#include "storage_target/nvmf/controller.h"
#include "storage_target/nvmf/namespace_table.h"
#include "storage_target/nvmf/request.h"
#include "storage_target/nvmf/transport_address.h"

namespace sma::storage_target {
class Reactor;
}

namespace sma::storage_target::nvmf {

class ControlPlane;
struct ConnectResult;

/// A submission queue and its completion queue, as seen by the code that executes commands.
/// Transports derive from TransportQueuePair. Runs on the thread of its reactor unless noted
/// otherwise.
class QueuePair : public CompletionSink {
 public:
  /// `listen_address` is the listener through which the host connected.
  QueuePair(ControlPlane& control_plane, Reactor& reactor, const TransportLimits& limits,
            TransportAddress listen_address, TransportAddress peer_address);
  virtual ~QueuePair();
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;

  // May be called from any thread.
  ControlPlane& control_plane() const { return control_plane_; }
  Reactor& reactor() const { return reactor_; }
  const TransportLimits& limits() const { return limits_; }
  const TransportAddress& listen_address() const { return listen_address_; }
  const TransportAddress& peer_address() const { return peer_address_; }
  /// Requests the reactor to call Disconnect. Called only on the control reactor, because it knows
  /// which queue pairs still exist.
  void PostDisconnect();

  // Used only on the reactor's thread.
  bool connected() const { return controller_ != nullptr; }
  uint16_t queue_id() const { return queue_id_; }
  bool is_admin() const { return queue_id_ == 0; }
  /// Returns the number of entries; 0 before the queue pair is connected.
  uint32_t queue_size() const { return queue_size_; }
  Controller& controller() const { return *controller_; }
  NamespaceTable& namespaces() const { return *namespaces_; }

  /// Completes a command: fills in the completion, with `result` in dwords 0 and 1, and passes it
  /// to the transport. Sets the "do not retry" bit for permanent errors.
  void Complete(Request& request, nvme::Status status, uint64_t result = 0) final;

  /// To be used for a command that completes later, on another thread or in a bdev. Keeps the queue
  /// pair alive until CompleteAsync, or EndAsync, which runs `complete`.
  void BeginAsync() { ++running_; }
  template <typename F>
  void EndAsync(F complete) {
    --running_;
    complete();
    if (closed_) DetachWhenIdle();
  }
  void CompleteAsync(Request& request, nvme::Status status, uint64_t result = 0) {
    EndAsync([&] { Complete(request, status, result); });
  }

  /// Returns true if no other command has called this without EndControlCall. Otherwise Execute is
  /// called again for `request` when it is its turn. Used by CallControl.
  bool BeginControlCall(Request& request);
  void EndControlCall();

  /// Copies `bytes` to the start of the command's data, truncated to its size. Returns false if
  /// there is no memory: the caller must return, and Execute will be called again.
  bool SendData(Request& request, std::span<const std::byte> bytes);
  /// Copies the start of the command's data to `out`; pads with zeroes if the data are too short.
  static void CopyData(const Request& request, std::span<std::byte> out);

  /// Keeps a write, whose data have arrived, until no ended connection of the host has I/O
  /// outstanding in the subsystem: such late I/O could overwrite the data of this write. Then
  /// executes it, or completes it with kInternalPathError if that exceeds
  /// SubsystemOptions::held_write_timeout_ms, counted from the first call for this command.
  void Hold(Request& request);
  /// Executes all held commands; if `execute` is false, ends those whose time has passed, and waits
  /// for the others again.
  void EndHold(bool execute);

  // The functions of the transport that the code that executes commands uses.

  /// Returns true if reads may send data directly from the medium's memory. Constant once
  /// connected.
  bool reads_in_place() const { return reads_in_place_; }
  /// Allocates request.data_size bytes for data to the host and sets iovs. Returns false if there
  /// is no memory at present; Execute will be called again.
  virtual bool AcquireBuffer(Request& request) = 0;
  /// Copies borrowed data to memory owned by the request and changes iovs.
  virtual void KeepData(Request& request) = 0;
  /// Called after a successful Connect, before its completion is sent. The transport prepares for
  /// queue_size() commands.
  virtual void OnConnected() = 0;
  /// Aborts command `cid` if it is waiting in this queue pair or in its bdev. Returns true if it
  /// has been completed with kAbortRequested.
  virtual bool Abort(uint16_t cid) = 0;
  /// Processes everything that the host has sent so far, and detects whether it has closed the
  /// connection.
  virtual void ProcessReceived() = 0;
  /// Ends the connection. Idempotent.
  virtual void Disconnect() = 0;

  /// Returns true once the connection has ended: commands are aborted, and no completion is sent.
  bool closed() const { return closed_; }
  /// Returns true if this queue pair is counted in Controller::HostConnections. Valid once it is
  /// detached.
  bool counts_as_ended() const { return counts_as_ended_; }

  /// True while a Connect command is executed on the control reactor; FinishConnect receives its
  /// result.
  bool connecting() const { return connecting_; }
  void BeginConnect() { connecting_ = true; }
  void FinishConnect(Request& request, const ConnectResult& result);

 protected:
  /// Ends the queue pair after its connection: Start, Execute and Respond are not called
  /// afterwards. Commands that wait in their bdev are aborted. When no command is outstanding, the
  /// controller and the target drop this queue pair and OnDetached is called.
  void Close();
  /// Aborts a started command. Returns true if it has ended, in its bdev or while held. Otherwise
  /// it completes later, either in its bdev or with kAbortRequested when the data or memory for
  /// which it waits becomes available. No further I/O of the command is submitted to the bdev.
  static bool AbortIo(Request& request);
  /// Returns true if no command is being executed outside of the queue pair.
  bool idle() const { return running_ == 0; }
  void set_reads_in_place(bool yes) { reads_in_place_ = yes; }
  /// Must be called for each command that is taken from the submission queue.
  void AdvanceSqHead() {
    if (queue_size_ != 0) sq_head_ = sq_head_ + 1 == queue_size_ ? 0 : sq_head_ + 1;
  }

  /// Executes a command again that has waited for its turn, or was held.
  virtual void Resume(Request& request) = 0;
  /// Calls `visit` for each request of this queue pair, in use or not.
  virtual void VisitRequests(void (*visit)(Request& request)) = 0;
  /// Sends the completion and, on success, request.data_size bytes of data if the transfer is to
  /// the host; then calls ReleaseData.
  virtual void Respond(Request& request) = 0;
  /// Must be called when the transport no longer needs a command's data, whether or not they were
  /// sent.
  static void ReleaseData(Request& request) {
    if (request.entry != nullptr) std::exchange(request.entry, nullptr)->Release();
  }
  /// The last callback; the transport may destroy the queue pair in it.
  virtual void OnDetached() = 0;

 private:
  void DetachWhenIdle();
  uint64_t HoldTimeLeftNs(const Request& request) const;
  void AwaitHeld(std::chrono::milliseconds at_least);

  ControlPlane& control_plane_;
  Reactor& reactor_;
  const TransportLimits limits_;
  const TransportAddress listen_address_;
  const TransportAddress peer_address_;

  std::atomic<uint64_t>& completed_commands_;
  std::atomic<uint64_t>& unassociated_;

  std::shared_ptr<Controller> controller_;
  std::shared_ptr<NamespaceTable> namespaces_;
  uint16_t queue_id_ = 0;
  uint32_t queue_size_ = 0;
  uint32_t sq_head_ = 0;
  bool sq_flow_control_ = true;
  bool connecting_ = false;
  bool reads_in_place_ = false;
  bool closed_ = false;
  bool in_control_call_ = false;
  base::IntrusiveList<bdev::Io> waiting_for_control_;  // commands
  bool counts_as_ended_ = false;
  std::vector<Request*> held_;
  bool awaiting_held_ = false;  // AwaitLateIo is under way, which it is if any command is held
  uint32_t running_ = 0;        // commands that will return from a bdev or another thread
};

}  // namespace sma::storage_target::nvmf
