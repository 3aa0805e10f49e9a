#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/unique_fd.h"
#include "target/nvme/tcp_pdu.h"
#include "target/nvmf/tcp/buffer_pool.h"
#include "target/nvmf/tcp/input_buffer.h"
#include "target/nvmf/tcp/mapped_array.h"
#include "target/nvmf/tcp/mapped_memory.h"
#include "target/nvmf/tcp/options.h"
#include "target/nvmf/tcp/tcp_request.h"
#include "target/nvmf/transport_queue_pair.h"
#include "target/reactor/work.h"

namespace sma::target::nvmf::tcp {

class PollGroup;

/// One NVMe/TCP connection, which carries one queue pair (NVMe/TCP 1.0 §3.1): the controller's end
/// of the PDU protocol. Made and destroyed by its poll group, in whose reactor everything runs.
class Connection final : public TransportQueuePair, private FdHandler, private BufferPool::User {
 public:
  /// Bytes received and not parsed, at most.
  static constexpr size_t kInputSize = 256 * 1024;

  /// `id`: what the group calls it.
  Connection(PollGroup& group, uint64_t id, base::UniqueFd fd, TransportAddress listen_address,
             TransportAddress peer_address);
  ~Connection() override;

  /// Begins to serve; false: no memory, or the socket cannot be watched.
  bool Open();
  /// Looks whether something has come; true when it had.
  bool Poll();
  /// Closes the connection of a host that is too slow at something it has to do.
  void CheckProgress(uint64_t now_ns);
  /// Closes the connection unless it has logged in or is about to: one whose Connect is under way
  /// is closed only if that fails.
  void Evict();
  /// Gives the memory of a connection that has been idle for a while back to the kernel.
  void ReleaseIdleMemory(uint64_t now_ns);
  void Disconnect() override;

  uint64_t id() const { return id_; }
  /// When something came last, on the reactor's clock.
  uint64_t last_receive_ns() const { return last_receive_ns_; }

 private:
  // connection.cc: life and memory.
  void OnFdReady(uint32_t events) override;
  void OnConnected() override;
  void OnDetached() override;
  bool Abort(uint16_t cid) override;
  void VisitRequests(void (*visit)(Request& request)) override;
  void CatchUp() override;
  void AddRequest(TcpRequest& request, uint32_t index, std::byte* slot);
  TcpRequest& RequestAt(uint32_t index) {
    return index == 0 ? first_request_ : more_requests_[index - 1];
  }
  TcpRequest* AllocateRequest();
  void FreeRequest(TcpRequest& request);
  bool AcquireBuffer(Request& request) override;
  bool TryAcquireBuffer(TcpRequest& request);
  void KeepData(Request& request) override;
  BufferPool::Turn TakeTurn() override;
  void ReleaseBuffer(TcpRequest& request);
  const char* OverdueAction(uint64_t now_ns) const;
  void UpdateWatch();
  void CloseSocket();
  std::string Name() const;

  // connection_receive.cc: from bytes to commands.
  bool Receive();
  bool OnNothingReceived(ssize_t got);
  bool IsReset() const;
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

  // connection_send.cc: from completions to bytes.
  void Respond(Request& request) override;
  std::byte* AddData(TcpRequest& request, bool implies_success);
  std::byte* AddCapsule(const nvme::Completion& completion, std::byte* at);
  void SendR2t(TcpRequest& request);
  void SendIcResp(uint8_t digests);
  void SendTermReq(nvme::tcp::Fault fault, std::span<const std::byte> culprit);
  void Send(Outgoing& out);
  void Flush();
  bool SendSome();
  void Consume(size_t size_bytes);
  static void KeepTornBlock(Outgoing& out);
  static void SendFromSlot(TcpRequest& request, size_t size_bytes);
  bool CopyNextBlocks(Outgoing& out);
  void CheckInPlace();
  void OnSent(Outgoing& out);

  struct FlushLater : Deferred {
    Connection* connection;
  };
  /// The H2CData PDU whose data are coming in.
  struct Incoming {
    TcpRequest* request = nullptr;
    uint32_t left = 0;  // bytes of data
    bool digest = false;
    nvme::Crc32c crc;
  };

  PollGroup& group_;
  const uint64_t id_;
  base::UniqueFd fd_;
  MappedMemory memory_;
  InputBuffer input_;
  MappedMemory slots_;  // memory of the requests but the first
  uint32_t slot_size_ = 0;

  nvme::tcp::Agreement agreement_;
  Incoming incoming_;
  TcpRequest first_request_;  // the only one before Connect
  MappedArray<TcpRequest> more_requests_;
  uint32_t request_count_ = 1;
  TcpRequest* free_ = nullptr;
  TcpRequest* waiting_head_ = nullptr;  // for memory
  TcpRequest** waiting_tail_ = &waiting_head_;
  int awaiting_data_ = 0;        // requests in that state
  int awaiting_large_data_ = 0;  // those of them with much to come
  bool stalled_ = false;         // a command waits for a free request
  bool evicted_ = false;         // to be closed if Connect fails
  bool out_of_memory_ = false;   // to be closed
  bool terminating_ = false;     // a TermReq is on its way, what comes is dropped

  OutgoingQueue out_;
  FlushLater flush_;
  bool blocked_ = false;  // the socket takes no more for now
  uint32_t watched_events_ = 0;
  Outgoing ic_resp_out_, term_req_out_;
  nvme::tcp::IcResp ic_resp_;
  std::array<std::byte, nvme::tcp::kMaxTermReqSize> term_req_;

  uint64_t opened_ns_ = 0;
  uint64_t released_ns_ = 0;  // when idle memory was given back last
  uint64_t last_receive_ns_ = 0;
  uint64_t last_look_ns_ = 0;  // at the socket, whether there was something or not
  uint64_t last_send_ns_ = 0;
  uint64_t terminated_ns_ = 0;
};

}  // namespace sma::target::nvmf::tcp
