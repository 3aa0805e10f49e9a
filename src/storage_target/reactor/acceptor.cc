// SPDX-License-Identifier: Apache-2.0

#include "storage_target/reactor/acceptor.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/descriptor_limit.h"
#include "spdlog/spdlog.h"

namespace sma::storage_target {
namespace {

// Maximum number of connections accepted in one round of the loop.
constexpr int kMaxAccepts = 64;
constexpr std::chrono::milliseconds kPause{100};
constexpr uint64_t kReportPeriodNs = 10'000'000'000;

// Returns true if the next descriptor would belong to the reserve. The kernel assigns the lowest
// free number.
bool OnlyReserveLeft(int fd) {
  const uint32_t limit = base::DescriptorLimit();
  const base::UniqueFd probe(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  return !probe || static_cast<uint32_t>(probe.get()) >= limit - base::DescriptorReserve(limit);
}

}  // namespace

Acceptor::Acceptor(Reactor& reactor, base::UniqueFd listener, Options options, OnAccept on_accept)
    : reactor_(reactor),
      listener_(std::move(listener)),
      options_(std::move(options)),
      on_accept_(std::move(on_accept)) {}

Acceptor::~Acceptor() { SetAccepting(false); }

base::UniqueFd Acceptor::TakeListener() {
  SetAccepting(false);
  return std::move(listener_);
}

int Acceptor::SetAccepting(bool accepting) {
  if (accepting == accepting_) return 0;
  if (accepting) {
    if (int error = reactor_.Watch(listener_.get(), EPOLLIN, this); error != 0) return -error;
  } else {
    reactor_.CancelTimer(std::exchange(resume_timer_, 0));
    reactor_.Unwatch(listener_.get());
  }
  accepting_ = accepting;
  return 0;
}

void Acceptor::OnFdReady(uint32_t /*events*/) {
  for (int i = 0; i < kMaxAccepts && accepting_; ++i) {
    if (options_.may_accept && !options_.may_accept()) {
      SetAccepting(false);
      return;
    }
    const int error = AcceptOne();
    if (error == EAGAIN || error == EWOULDBLOCK) return;
    if (error != 0) return Pause(error);
  }
}

int Acceptor::AcceptOne() {
  if (options_.keep_reserve && OnlyReserveLeft(listener_.get())) return EMFILE;
  AcceptedPeer peer;
  peer.address_bytes = sizeof peer.address;
  peer.socket.Reset(::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&peer.address),
                              &peer.address_bytes, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!peer.socket) return errno == EINTR || errno == ECONNABORTED ? 0 : errno;
  on_accept_(std::move(peer));
  return 0;
}

void Acceptor::Pause(int error) {
  if (reported_ns_ == 0 || reactor_.now_ns() - reported_ns_ > kReportPeriodNs) {
    reported_ns_ = reactor_.now_ns();
    spdlog::error("{}: cannot accept connections: {}", options_.name, std::strerror(error));
  }
  reactor_.ModifyWatch(listener_.get(), 0);
  resume_timer_ = reactor_.AddTimer(kPause, [this] {
    resume_timer_ = 0;
    reactor_.ModifyWatch(listener_.get(), EPOLLIN);
  });
}

}  // namespace sma::storage_target
