// SPDX-License-Identifier: Apache-2.0

// Establishes a queue pair: TCP connection, ICReq and ICResp, Connect (NVMe/TCP 1.0 §3.2).

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/descriptor_limit.h"
#include "storage_target/bdev_modules/nvme/initiator/queue_pair.h"
#include "storage_target/nvme/nqn.h"

namespace sma::storage_target::initiator {
namespace {

uint8_t WantedDigests(const Association& association) {
  return static_cast<uint8_t>((association.header_digest ? nvme::tcp::kDigestHeader : 0) |
                              (association.data_digest ? nvme::tcp::kDigestData : 0));
}

std::string RefusalText(nvme::Status status) {
  switch (status) {
    case nvme::Status::kConnectControllerBusy:
      return "Connect was refused: the controller is busy";
    case nvme::Status::kConnectInvalidParameters:
      return "Connect was refused: no such subsystem or controller there";
    case nvme::Status::kConnectInvalidHost:
      return "Connect was refused: this host is not allowed";
    default: {
      char text[64];
      std::snprintf(text, sizeof text, "Connect was refused with status %03xh",
                    static_cast<unsigned>(status));
      return text;
    }
  }
}

}  // namespace

void QueuePair::Start() {
  state_ = State::kConnecting;
  int error = OpenSocket();
  if (error != 0) Close(std::string("cannot connect: ") + std::strerror(error));
}

void QueuePair::StartOn(base::UniqueFd socket) {
  fd_ = std::move(socket);
  state_ = State::kInitializing;
  SendIcReq();
}

// Returns 0 on success or if the connect is in progress, otherwise a positive errno value.
int QueuePair::OpenSocket() {
  const Association& association = options_.association;
  sockaddr_storage remote{};
  socklen_t remote_size = association.address.ToSockaddr(remote);
  if (remote_size == 0) return EADDRNOTAVAIL;
  fd_.Reset(socket(remote.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd_) return errno;
  if (base::IsReservedForJsonRpc(fd_.get())) return EMFILE;
  int on = 1;
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (unsigned timeout_ms = options_.ack_timeout_ms; timeout_ms > 0) {
    setsockopt(fd_.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
  }
  if (association.source) {
    sockaddr_storage source{};
    socklen_t source_size = association.source->ToSockaddr(source);
    if (source_size == 0) return EADDRNOTAVAIL;
    if (bind(fd_.get(), reinterpret_cast<sockaddr*>(&source), source_size) != 0) return errno;
  }
  if (connect(fd_.get(), reinterpret_cast<sockaddr*>(&remote), remote_size) == 0) return 0;
  return errno == EINPROGRESS ? 0 : errno;
}

bool QueuePair::FinishTcpConnect() {
  pollfd ready{fd_.get(), POLLOUT, 0};
  if (poll(&ready, 1, 0) <= 0) return false;
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) {
    Close(std::string("cannot connect: ") + std::strerror(error));
    return true;
  }
  state_ = State::kInitializing;
  SendIcReq();
  return true;
}

void QueuePair::SendIcReq() {
  nvme::tcp::IcReq request;
  request.digests = WantedDigests(options_.association);
  sender_.PutRaw(std::as_bytes(std::span(&request, 1)));
  Flush();
}

nvme::tcp::Fault QueuePair::OnIcResp(const nvme::tcp::IcResp& pdu) {
  nvme::tcp::Fault fault = nvme::tcp::CheckIcResp(pdu, WantedDigests(options_.association));
  if (fault) return fault;
  negotiated_.initialized = true;
  negotiated_.header_digest = (pdu.digests & nvme::tcp::kDigestHeader) != 0;
  negotiated_.data_digest = (pdu.digests & nvme::tcp::kDigestData) != 0;
  negotiated_.cpda = pdu.cpda;
  negotiated_.maxh2cdata = pdu.maxh2cdata;
  state_ = State::kJoining;
  SendConnect();
  return {};
}

void QueuePair::SendConnect() {
  const Association& association = options_.association;
  nvme::ConnectCommand command;
  command.queue_id = options_.queue_id;
  command.sq_size = static_cast<uint16_t>(options_.entries - 1);
  command.keep_alive_ms = options_.queue_id == 0 ? options_.keep_alive_ms : 0;
  connect_.command = std::bit_cast<nvme::Command>(command);
  connect_.data.host_id = association.host_id.bytes();
  connect_.data.controller_id = options_.controller_id;
  nvme::SetPadded(connect_.data.subsystem_nqn, association.subnqn, '\0');
  nvme::SetPadded(connect_.data.host_nqn, association.hostnqn, '\0');
  connect_.iov = {&connect_.data, sizeof connect_.data};
  connect_.iovs = &connect_.iov;
  connect_.iov_count = 1;
  connect_.data_bytes = sizeof connect_.data;
  connect_.queue_pair = this;
  connect_.done = OnConnectDone;
  Enqueue(connect_);
  Flush();
}

void QueuePair::OnConnectDone(Request& request, const nvme::Completion& completion) {
  QueuePair& self = *static_cast<ConnectRequest&>(request).queue_pair;
  if (self.closed()) return;
  nvme::Status status = nvme::StatusOf(completion.status);
  if (status != nvme::Status::kSuccess) {
    self.Close(RefusalText(status));
  } else if ((completion.dw0 >> 16) != 0) {
    self.Close("the controller requires authentication");
  } else {
    self.controller_id_ = nvme::ConnectControllerId(completion.dw0);
    self.state_ = State::kReady;
  }
}

}  // namespace sma::storage_target::initiator
