// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/intrusive_list.h"
#include "base/unique_fd.h"
#include "base/uuid.h"
#include "storage_target/bdev_modules/nvme/initiator/address.h"
#include "storage_target/bdev_modules/nvme/initiator/pdu_receiver.h"
#include "storage_target/bdev_modules/nvme/initiator/pdu_sender.h"
#include "storage_target/bdev_modules/nvme/initiator/request.h"
#include "storage_target/bdev_modules/nvme/initiator/slot.h"
#include "storage_target/nvme/fabrics.h"
#include "storage_target/nvme/tcp_pdu.h"

namespace sma::storage_target::initiator {

/// The parameters of a connection that are the same for all queue pairs of a controller.
struct Association {
  Address address;
  std::optional<Address> source;  // local address to bind; port 0: any
  std::string subnqn;
  std::string hostnqn;
  base::Uuid host_id;
  bool header_digest = false;  // to request; the controller may refuse it
  bool data_digest = false;
};

/// One NVMe/TCP queue pair, which is one TCP connection (NVMe/TCP 1.0 §3.1). Used on one thread;
/// never blocks. The owner calls Flush and Receive when the socket is ready (see ReactorQueuePair),
/// or Poll in a loop. The only callbacks are the requests' `done`, so the owner checks state()
/// after each call.
class QueuePair : private PduSender::Owner, private PduReceiver::Handler {
 public:
  struct Options {
    Association association;
    uint16_t queue_id = 0;  // 0: the admin queue
    uint16_t controller_id = nvme::ConnectData::kAnyControllerId;
    uint16_t entries = 128;      // submission queue size, at least 2; one entry is unused
    uint32_t keep_alive_ms = 0;  // for the admin queue; 0: none
    /// Maximum data in a command's capsule (IOCCSZ). For Fabrics and admin commands it is always
    /// 8,192.
    uint32_t in_capsule_bytes = 0;
    /// The connection is lost if sent data are not acknowledged within this time
    /// (TCP_USER_TIMEOUT). If 0, the kernel's default applies.
    uint32_t ack_timeout_ms = 0;
    bool hold_sent_writes = false;  // see Close
  };
  enum class State : uint8_t { kConnecting, kInitializing, kJoining, kReady, kClosed };

  explicit QueuePair(const Options& options);
  /// Closes the connection.
  ~QueuePair() override;

  /// Starts connecting: TCP connection, ICReq, Connect. If that fails immediately, the state is
  /// kClosed afterwards.
  void Start();
  /// Like Start, with a stream socket that is already connected and non-blocking.
  void StartOn(base::UniqueFd socket);

  /// The state in which Abort has found the request.
  enum class AbortResult : uint8_t {
    kNotHere,      // the request has already ended
    kWithdrawn,    // nothing was sent: the submitter owns the request, `done` will not be called
    kSent,         // `done` will be called; an Abort command for the CID may be sent
    kAlreadySent,  // like kSent, and an Abort command is already outstanding
  };
  /// Withdraws `request` if nothing of it has been sent. After kSent, the CID is not used for
  /// another command until EndAbort(*cid). `request` may have ended, but must exist.
  AbortResult Abort(Request& request, uint16_t* cid);
  void EndAbort(uint16_t cid);

  /// Queues a command, which Flush sends. Returns false and has no effect unless the state is
  /// kReady. Commands beyond the queue size wait. `done` may call Submit and Close, but must not
  /// destroy the queue pair.
  bool Submit(Request& request);

  /// Sends the queued bytes, as far as the socket accepts them.
  void Flush();
  /// Reads once and handles the received PDUs, calling `done` of completed commands. Returns true
  /// if there was work.
  bool Receive();
  /// Calls Flush and Receive; intended for loops that poll.
  bool Poll() {
    Flush();
    return Receive();
  }

  /// Closes the connection. Outstanding and waiting requests end with kHostPathingError. The kernel
  /// discards the unsent part of an I/O queue's commands. Idempotent.
  ///
  /// With Options::hold_sent_writes, a command that changes data and that the controller may still
  /// execute is held instead: the same command could be sent through another connection and be
  /// followed by a newer one, which the first copy would then overwrite (NVMe Base 2.1,
  /// "Communication Loss Handling"). This end of the connection is shut down. The owner calls
  /// AwaitPeer when the socket is readable, and EndHeld when the controller can no longer execute
  /// the commands.
  void Close(const std::string& reason);
  /// Returns the number of held commands.
  uint32_t held() const { return held_; }
  /// Discards what the remote side has sent. Returns true if it has closed or reset the connection,
  /// after which it starts no command that it received there.
  bool AwaitPeer();
  /// Returns true if the remote side may still close the connection, so that AwaitPeer should be
  /// called. False if the connection has failed in another way.
  bool peer_may_close() const { return !peer_unknown_; }
  /// Resets the connection and ends the held commands with kHostPathingError.
  void EndHeld();
  /// Ends the held commands for which `which` returns true with `status`, although the controller
  /// may still execute them. ConnectionLost(completion) is true for them, too.
  void FailHeld(const std::function<bool(const Request& request)>& which, nvme::Status status);

  State state() const { return state_; }
  bool ready() const { return state_ == State::kReady; }
  bool closed() const { return state_ == State::kClosed; }
  /// Returns the reason for closing.
  const std::string& close_reason() const { return close_reason_; }
  /// Returns the socket; -1 if it has not been created yet.
  int fd() const { return fd_.get(); }
  /// Returns true if Receive or Flush should be called when the socket is writable.
  bool wants_write() const { return state_ == State::kConnecting || blocked_; }
  /// Returns true if Flush has work to do: commands, or data that the controller has requested.
  bool has_unsent() const { return !sender_.idle(); }
  const Options& options() const { return options_; }
  /// Returns the controller's ID, which is the result of Connect. Valid in the state kReady.
  uint16_t controller_id() const { return controller_id_; }
  const nvme::tcp::NegotiatedParams& negotiated() const { return negotiated_; }
  /// Returns the number of commands that were submitted and have not ended.
  uint32_t outstanding() const { return outstanding_; }

  /// Advances the clock for command timeouts, which are measured in ticks so that no clock is read
  /// per command. The owner calls this at intervals of its choice.
  void Tick() { ++tick_; }
  /// Returns the age in ticks of the oldest command that has a CID; 0 if there is none. Commands
  /// with opcode `except` do not count.
  uint32_t OldestAgeTicks(std::optional<nvme::AdminOpcode> except = std::nullopt);

 private:
  // Implementation of PduSender::Owner.
  void OnReleased(uint16_t cid) override;
  // Implementation of PduReceiver::Handler.
  nvme::tcp::Fault OnIcResp(const nvme::tcp::IcResp& pdu) override;
  nvme::tcp::Fault OnResponse(const nvme::Completion& completion) override;
  nvme::tcp::Fault OnR2t(const nvme::tcp::R2t& pdu) override;
  void OnTermReq(const nvme::tcp::TermReq& pdu) override;
  nvme::tcp::Fault OnDataBegin(const nvme::tcp::DataPdu& pdu, IovCursor** place) override;
  void OnDataEnd(const nvme::tcp::DataPdu& pdu, bool intact) override;

  int OpenSocket();
  bool FinishTcpConnect();
  void SendIcReq();
  void SendConnect();
  static void OnConnectDone(Request& request, const nvme::Completion& completion);
  AbortResult Withdraw(Request& waiting);
  AbortResult AskToAbort(const Request& request, uint16_t* cid);
  void Enqueue(Request& request);
  void Begin(Request& request);
  void SetDataPointer(Request& request) const;
  void Answer(uint16_t cid, nvme::Completion completion);
  void Finish(uint16_t cid, const nvme::Completion& completion);
  void HoldSentWrites();
  void CloseAfterError(const char* what, int error);
  void EndAll();
  void BeginWaiting();
  void FailProtocol(const nvme::tcp::Fault& fault);

  const Options options_;
  State state_ = State::kClosed;
  std::string close_reason_;
  base::UniqueFd fd_;
  nvme::tcp::NegotiatedParams negotiated_;
  SlotTable slots_;
  PduSender sender_;
  PduReceiver receiver_;
  base::IntrusiveList<Request> waiting_;  // wait for a CID
  bool blocked_ = false;
  bool peer_closed_ = false;   // the remote side has closed or reset the connection
  bool peer_unknown_ = false;  // the connection has failed without that, for example in a timeout
  uint32_t held_ = 0;
  uint32_t outstanding_ = 0;
  uint32_t tick_ = 0;
  uint16_t controller_id_ = nvme::ConnectData::kAnyControllerId;

  // State of Connect.
  struct ConnectRequest : Request {
    QueuePair* queue_pair = nullptr;
    nvme::ConnectData data;
    iovec iov;
  };
  ConnectRequest connect_;
};

}  // namespace sma::storage_target::initiator
