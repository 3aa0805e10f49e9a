#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "target/nvmf/completion_sink.h"
#include "target/nvmf/controller.h"
#include "target/nvmf/namespace_table.h"
#include "target/nvmf/request.h"
#include "target/nvmf/transport_address.h"

namespace sma::target {
class Reactor;
}

namespace sma::target::nvmf {

class ControlPlane;
struct ConnectResult;

/// One submission queue with its completion queue, as the commands that are executed on it know it;
/// TransportQueuePair is what transports derive from. Everything runs in the thread of its reactor
/// unless noted otherwise.
class QueuePair : public CompletionSink {
 public:
  /// `listen_address`: the listener that the connection came through.
  QueuePair(ControlPlane& control_plane, Reactor& reactor, const TransportLimits& limits,
            TransportAddress listen_address, TransportAddress peer_address);
  virtual ~QueuePair();
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;

  // From any thread.
  ControlPlane& control_plane() const { return control_plane_; }
  Reactor& reactor() const { return reactor_; }
  const TransportLimits& limits() const { return limits_; }
  const TransportAddress& listen_address() const { return listen_address_; }
  const TransportAddress& peer_address() const { return peer_address_; }
  /// Asks the reactor to call Disconnect. Only by the control reactor, which knows which queue
  /// pairs still exist.
  void PostDisconnect();

  // From the reactor's thread.
  bool connected() const { return controller_ != nullptr; }
  uint16_t queue_id() const { return queue_id_; }
  bool is_admin() const { return queue_id_ == 0; }
  /// Entries; 0 before it is connected.
  uint32_t queue_size() const { return queue_size_; }
  Controller& controller() const { return *controller_; }
  NamespaceTable& namespaces() const { return *namespaces_; }

  /// Ends a command: fills the completion in, `result` in its dwords 0 and 1, and hands it to the
  /// transport. Errors that would come again get the "do not retry" bit.
  void Complete(Request& request, nvme::Status status, uint64_t result = 0) final;

  /// For a command that ends later, in another thread or in a bdev: the queue pair lives until
  /// EndAsync, which runs `complete`, or CompleteAsync.
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

  /// Copies to the command's data, from the start; what does not fit is left out. False when there
  /// is no memory yet: return, Execute is called again.
  bool SendData(Request& request, std::span<const std::byte> bytes);
  /// Copies the command's data from their start; zeroes where they are too short.
  static void CopyData(const Request& request, std::span<std::byte> out);

  // What the code that executes commands needs from the transport.

  /// Whether data to the host may be read where the medium has them. Constant once connected.
  bool reads_in_place() const { return reads_in_place_; }
  /// Memory of request.data_size bytes for data to the host: sets iovs. False: there is none now;
  /// Execute will be called again.
  virtual bool AcquireBuffer(Request& request) = 0;
  /// Borrowed data move to memory of the request's own: changes iovs.
  virtual void KeepData(Request& request) = 0;
  /// Connect has succeeded; the answer follows. The transport prepares for queue_size() commands.
  virtual void OnConnected() = 0;
  /// Aborts command `cid` if it waits in this queue pair or in its bdev. Returns true if it has
  /// been completed with kAbortRequested.
  virtual bool Abort(uint16_t cid) = 0;
  /// Takes what the host has sent so far, and notices whether it has closed the connection.
  virtual void CatchUp() = 0;
  /// Ends the connection. Idempotent.
  virtual void Disconnect() = 0;

  /// True from the end of the connection on: commands are aborted, and none is answered.
  bool closed() const { return closed_; }

  /// A Connect command goes to the control reactor, and what it decided comes back.
  bool connecting() const { return connecting_; }
  void BeginConnect() { connecting_ = true; }
  void FinishConnect(Request& request, const ConnectResult& result);

 protected:
  /// The connection is gone: no more Start, Execute and Respond. Commands that still wait in their
  /// bdev are aborted. When no command is running any more, the controller and the target forget
  /// this queue pair and OnDetached is called.
  void Close();
  /// Aborts a command that has been started. Returns true if its bdev has ended it; false if it
  /// will be completed later: by its bdev in its own time, or with kAbortRequested when what it
  /// waits for (data from the host, memory) has come. Nothing more of it is given to the bdev.
  static bool AbortIo(Request& request);
  void set_reads_in_place(bool yes) { reads_in_place_ = yes; }
  /// A command has been taken from the submission queue.
  void AdvanceSqHead() {
    if (queue_size_ != 0) sq_head_ = sq_head_ + 1 == queue_size_ ? 0 : sq_head_ + 1;
  }

  /// Calls `visit` for each request of this queue pair, in use or not.
  virtual void VisitRequests(void (*visit)(Request& request)) = 0;
  /// Send the completion and, when it is a success, request.data_size bytes of data if they go to
  /// the host; then ReleaseData.
  virtual void Respond(Request& request) = 0;
  /// The transport is done with a command's data, sent or not.
  static void ReleaseData(Request& request) {
    if (request.entry != nullptr) std::exchange(request.entry, nullptr)->Release();
  }
  /// The last call; the transport may destroy the queue pair in here.
  virtual void OnDetached() = 0;

 private:
  void DetachWhenIdle();

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
  uint32_t running_ = 0;  // commands that will come back from a bdev or another thread
};

}  // namespace sma::target::nvmf
