#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "base/uuid.h"
#include "target/bdev_modules/nvme/initiator/address.h"
#include "target/bdev_modules/nvme/initiator/pdu_receiver.h"
#include "target/bdev_modules/nvme/initiator/pdu_sender.h"
#include "target/bdev_modules/nvme/initiator/request.h"
#include "target/bdev_modules/nvme/initiator/slot.h"
#include "target/nvme/fabrics.h"
#include "target/nvme/tcp_pdu.h"

namespace sma::target::initiator {

/// Who connects to what: the same for all queue pairs of a controller.
struct Association {
  Address address;
  std::optional<Address> source;  // the local address to connect from; port 0: any
  std::string subnqn;
  std::string hostnqn;
  base::Uuid host_id;
  bool header_digest = false;  // ask for it; the controller may say no
  bool data_digest = false;
};

/// One NVMe/TCP queue pair, that is one TCP connection (NVMe/TCP 1.0 §3.1). Belongs to one thread
/// and never blocks: the owner calls Flush and Receive when the socket is ready (ReactorQueuePair
/// does), or Poll in a loop. It calls nobody but the requests' `done`, so that the owner looks at
/// state() afterwards.
class QueuePair : private PduSender::Owner, private PduReceiver::Handler {
 public:
  struct Options {
    Association association;
    uint16_t queue_id = 0;  // 0: the admin queue
    uint16_t controller_id = nvme::ConnectData::kAnyControllerId;
    uint16_t entries = 128;      // of the submission queue, at least 2; one less may be under way
    uint32_t keep_alive_ms = 0;  // the admin queue's; 0: none
    uint32_t in_capsule_bytes = 0;  // the most data in a command's capsule (IOCCSZ); Fabrics and
                                    // admin commands may always have 8,192
    uint32_t ack_timeout_ms = 0;    // the connection is lost when sent data are not acknowledged
                                    // for so long (TCP_USER_TIMEOUT); 0: the kernel's default
  };
  enum class State : uint8_t { kConnecting, kInitializing, kJoining, kReady, kClosed };

  explicit QueuePair(const Options& options);
  /// Closes it.
  ~QueuePair() override;

  /// Begins: TCP connection, ICReq, Connect. kClosed afterwards when it fails at once.
  void Start();
  /// The same on a stream socket that is connected already and does not block.
  void StartOn(base::UniqueFd socket);

  /// How Abort found the request.
  enum class AbortResult : uint8_t {
    kNotHere,    // it has ended
    kWithdrawn,  // nothing of it was sent: it is the submitter's again, and `done` is not called
    kSent,       // `done` will be called; an Abort command for the CID may be sent
    kAsked,      // as kSent, and an Abort command is under way already
  };
  /// Stops `request` if nothing of it was sent. For kSent the CID is not used for another command
  /// until EndAbort(*cid).
  AbortResult Abort(Request& request, uint16_t* cid);
  void EndAbort(uint16_t cid);

  /// Queues a command; Flush sends it. False, and nothing happens, unless the state is kReady. What
  /// does not fit the queue waits. Its `done` may submit more and may Close, but not destroy the
  /// queue pair.
  bool Submit(Request& request);

  /// Sends what is queued, as far as the socket takes it.
  void Flush();
  /// Reads once and handles what has come, calling `done` of commands that are answered. True when
  /// there was work.
  bool Receive();
  /// Flush and Receive: a step of a loop that does nothing else.
  bool Poll() {
    Flush();
    return Receive();
  }

  /// Ends the connection: requests under way and waiting end with kHostPathingError. What the
  /// kernel has not yet sent of an I/O queue's commands is not sent any more. Nothing when closed.
  void Close(const std::string& reason);

  State state() const { return state_; }
  bool ready() const { return state_ == State::kReady; }
  bool closed() const { return state_ == State::kClosed; }
  /// Why it is closed.
  const std::string& close_reason() const { return close_reason_; }
  /// The socket; -1 when there was none yet.
  int fd() const { return fd_.get(); }
  /// Receive or Flush should be called when the socket is writable.
  bool wants_write() const { return state_ == State::kConnecting || blocked_; }
  /// Flush has something to do: commands, or data that the controller has asked for meanwhile.
  bool has_unsent() const { return !sender_.idle(); }
  const Options& options() const { return options_; }
  /// What Connect answered; when kReady.
  uint16_t controller_id() const { return controller_id_; }
  const nvme::tcp::Agreement& agreement() const { return agreement_; }
  /// Commands submitted and not yet ended.
  uint32_t outstanding() const { return outstanding_; }

  /// For time-outs without reading a clock for each command: the owner calls Tick at intervals of
  /// its choice.
  void Tick() { ++tick_; }
  /// How many ticks ago the oldest command that has a CID was submitted; 0 without any. Commands
  /// with opcode `except` do not count.
  uint32_t OldestAgeTicks(std::optional<nvme::AdminOpcode> except = std::nullopt);

 private:
  // PduSender::Owner.
  void OnReleased(uint16_t cid) override;
  // PduReceiver::Handler.
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
  void Enqueue(Request& request);
  void Begin(Request& request);
  void SetDataPointer(Request& request) const;
  void Answer(uint16_t cid, nvme::Completion completion);
  void Finish(uint16_t cid, const nvme::Completion& completion);
  void EndAll();
  void ResetConnection();
  void BeginWaiting();
  void FailProtocol(const nvme::tcp::Fault& fault);

  const Options options_;
  State state_ = State::kClosed;
  std::string close_reason_;
  base::UniqueFd fd_;
  nvme::tcp::Agreement agreement_;
  SlotTable slots_;
  PduSender sender_;
  PduReceiver receiver_;
  RequestList waiting_;  // for a CID
  bool blocked_ = false;
  uint32_t outstanding_ = 0;
  uint32_t tick_ = 0;
  uint16_t controller_id_ = nvme::ConnectData::kAnyControllerId;

  // Connect.
  struct ConnectRequest : Request {
    QueuePair* queue_pair = nullptr;
    nvme::ConnectData data;
    iovec iov;
  };
  ConnectRequest connect_;
};

}  // namespace sma::target::initiator
