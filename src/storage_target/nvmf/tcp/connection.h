// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/intrusive_list.h"
#include "base/unique_fd.h"
#include "storage_target/nvme/tcp_pdu.h"
#include "storage_target/nvmf/tcp/admission.h"
#include "storage_target/nvmf/tcp/buffer_pool.h"
#include "storage_target/nvmf/tcp/input_buffer.h"
#include "storage_target/nvmf/tcp/mapped_memory.h"
#include "storage_target/nvmf/tcp/options.h"
#include "storage_target/nvmf/tcp/request_table.h"
#include "storage_target/nvmf/tcp/tcp_request.h"
#include "storage_target/nvmf/transport_queue_pair.h"
#include "storage_target/reactor/peer_watch.h"
#include "storage_target/reactor/work.h"

namespace sma::storage_target::nvmf::tcp {

class PollGroup;

/// One NVMe/TCP connection, which carries one queue pair (NVMe/TCP 1.0 §3.1): the controller side
/// of the PDU protocol. Created and destroyed by its poll group, in whose reactor everything runs.
class Connection final : public TransportQueuePair, private FdHandler, private BufferPool::User {
 public:
  /// The maximum number of bytes that are received but not yet parsed.
  static constexpr size_t kInputSize = 256 * 1024;

  /// `id` is the connection's ID in its group.
  Connection(PollGroup& group, uint64_t id, base::UniqueFd fd, TransportAddress listen_address,
             TransportAddress peer_address);
  ~Connection() override;

  /// Starts serving; returns false if there is no memory or the socket cannot be watched.
  bool Open();
  /// Reads the socket if data is available; returns true if there was some.
  bool Poll();
  /// Closes the connection if its association has ended at `clock_ns`, the present time, or if
  /// commands wait and the host has closed the connection: they must not be executed later.
  void CheckHost(uint64_t clock_ns);
  /// Closes the connection if the host has exceeded a time limit.
  void CheckProgress(uint64_t now_ns);
  /// Closes the connection if it is in `state`. If Connect is in progress, closes it only if
  /// Connect fails.
  void Evict(Admission::State state);
  /// Returns true if the connection is connected to the discovery subsystem.
  bool is_discovery() const { return connected() && controller().is_discovery(); }
  /// Releases memory to the kernel if the connection has been idle for a while.
  void ReleaseIdleMemory(uint64_t now_ns);
  void Disconnect() override;

  uint64_t id() const { return id_; }
  /// Returns the time at which data were last received, on the reactor's clock.
  uint64_t last_receive_ns() const { return last_receive_ns_; }

 private:
  // Implemented in connection.cc: lifetime and memory.
  void OnFdReady(uint32_t events) override;
  void OnClosedByHost();
  void OnConnected() override;
  void OnDetached() override;
  bool Abort(uint16_t cid) override;
  void VisitRequests(void (*visit)(Request& request)) override;
  void ProcessReceived() override;
  TcpRequest* AllocateRequest();
  void FreeRequest(TcpRequest& request);
  bool AcquireBuffer(Request& request) override;
  bool TryAcquireBuffer(TcpRequest& request);
  void KeepData(Request& request) override;
  BufferPool::Turn TakeTurn() override;
  void ReleaseBuffer(TcpRequest& request);
  const char* OverdueAction(uint64_t now_ns);
  bool HoldsMemoryTooLong(uint64_t now_ns);
  bool HoldsNamespaceTooLong(uint64_t now_ns);
  void UpdateWatch();
  void CloseSocket();
  std::string Name() const;
  /// Returns the host's address without the port: the log lines of one address are limited
  /// together.
  const std::string& Source() const { return peer_address().address; }

  // Implemented in connection_receive.cc: converting received bytes to commands.
  bool Receive();
  bool OnNothingReceived(ssize_t got);
  void CloseExpired();
  void Parse();
  bool ParsePdu();
  bool HandlePdu(const nvme::tcp::CommonHeader& header, const nvme::tcp::Layout& layout);
  bool HandleIcReq();
  bool HandleCapsule(const nvme::tcp::Layout& layout);
  nvme::Status CheckSgl(TcpRequest& request, const std::byte* capsule_data, uint32_t capsule_size);
  void ReceiveData(Request& request) override;
  nvme::tcp::Fault CheckH2cData(const nvme::tcp::DataPdu& pdu, const nvme::tcp::Layout& layout);
  bool HandleH2cData(const nvme::tcp::Layout& layout);
  bool ParseData();
  void TakeData(size_t size_bytes);
  void FinishData(TcpRequest& request);
  void SetAwaitingData(TcpRequest& request, bool awaiting);
  void Terminate(nvme::tcp::Fault fault);

  // Implemented in connection_send.cc: converting completions to bytes.
  void Respond(Request& request) override;
  std::byte* AddData(TcpRequest& request, bool implies_success);
  std::byte* AddCapsule(const nvme::Completion& completion, std::byte* at);
  void SendR2t(TcpRequest& request);
  void SendIcResp(uint8_t digests);
  void SendTermReq(nvme::tcp::Fault fault, std::span<const std::byte> culprit);
  void Send(Outgoing& out);
  void Flush();
  bool SendOnce();
  void Consume(size_t size_bytes);
  static void CopyPartialBlock(Outgoing& out);
  static void SendFromSlot(TcpRequest& request, size_t size_bytes);
  bool CopyNextBlocks(Outgoing& out);
  void CheckInPlace();
  void OnSent(Outgoing& out);

  struct FlushLater : Deferred {
    Connection* connection;
  };
  /// The H2CData PDU whose data is being received.
  struct Incoming {
    TcpRequest* request = nullptr;
    uint32_t left = 0;  // bytes of data still to come
    bool digest = false;
    nvme::Crc32c crc;
  };

  PollGroup& group_;
  const uint64_t id_;
  base::UniqueFd fd_;
  PeerWatch host_watch_;
  MappedMemory memory_;
  InputBuffer input_;
  uint32_t slot_size_ = 0;

  nvme::tcp::NegotiatedParams negotiated_;
  Incoming incoming_;
  RequestTable requests_{*this};
  base::IntrusiveQueue<TcpRequest> waiting_;  // for memory
  int awaiting_data_ = 0;                     // number of requests in that state
  int awaiting_large_data_ = 0;               // those of them that expect much data
  bool stalled_ = false;                      // a command waits for a free request
  bool evicted_ = false;                      // to be closed if Connect fails
  bool out_of_memory_ = false;                // to be closed
  bool terminating_ = false;                  // a TermReq is being sent, received data is dropped

  OutgoingQueue out_;
  FlushLater flush_;
  bool blocked_ = false;      // the socket buffer is full
  uint64_t revocations_ = 0;  // bdev::InPlaceRevocations at the last CheckInPlace
  uint32_t watched_events_ = 0;
  Outgoing ic_resp_out_, term_req_out_;
  nvme::tcp::IcResp ic_resp_;
  std::array<std::byte, nvme::tcp::kMaxTermReqSize> term_req_;

  uint64_t opened_ns_ = 0;
  uint64_t released_ns_ = 0;  // time of the last release of idle memory
  uint64_t last_receive_ns_ = 0;
  uint64_t last_send_ns_ = 0;
  uint64_t terminated_ns_ = 0;
};

}  // namespace sma::storage_target::nvmf::tcp
