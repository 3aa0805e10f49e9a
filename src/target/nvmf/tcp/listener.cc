#include "target/nvmf/tcp/listener.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "spdlog/spdlog.h"

namespace sma::target::nvmf::tcp {
namespace {

// Connections taken in one round of the loop.
constexpr int kMaxAccepts = 64;
constexpr std::chrono::milliseconds kPause{100};
constexpr uint64_t kAcceptReportPeriodNs = 10'000'000'000;

struct AddrInfoDeleter {
  void operator()(addrinfo* info) const { ::freeaddrinfo(info); }
};

std::unique_ptr<addrinfo, AddrInfoDeleter> Resolve(const TransportAddress& address) {
  addrinfo hints{};
  hints.ai_family = address.family == nvme::AddressFamily::kIpv6 ? AF_INET6 : AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  addrinfo* info = nullptr;
  if (::getaddrinfo(address.address.c_str(), address.service_id.c_str(), &hints, &info) != 0)
    return nullptr;
  return std::unique_ptr<addrinfo, AddrInfoDeleter>(info);
}

TransportAddress PeerOf(const sockaddr_storage& storage, socklen_t size) {
  char host[NI_MAXHOST] = "";
  char service[NI_MAXSERV] = "";
  ::getnameinfo(reinterpret_cast<const sockaddr*>(&storage), size, host, sizeof host, service,
                sizeof service, NI_NUMERICHOST | NI_NUMERICSERV);
  bool v6 = storage.ss_family == AF_INET6;
  return {"TCP", v6 ? nvme::AddressFamily::kIpv6 : nvme::AddressFamily::kIpv4, host, service};
}

}  // namespace

base::ErrnoOr<std::unique_ptr<Listener>> Listener::Open(Reactor& control,
                                                        const TransportAddress& address,
                                                        OnAccept on_accept) {
  using Result = base::ErrnoOr<std::unique_ptr<Listener>>;
  auto info = Resolve(address);
  if (info == nullptr) return Result::Error(EINVAL);
  base::UniqueFd fd(::socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return Result::Error(errno);
  int yes = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  // An IPv4 listener on the same port stays possible.
  if (info->ai_family == AF_INET6)
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
  if (::bind(fd.get(), info->ai_addr, info->ai_addrlen) != 0 ||
      ::listen(fd.get(), SOMAXCONN) != 0) {
    return Result::Error(errno);
  }
  std::unique_ptr<Listener> listener(
      new Listener(control, address, std::move(fd), std::move(on_accept)));
  if (int error = control.Watch(listener->fd_.get(), EPOLLIN, listener.get()); error != 0) {
    return Result::Error(-error);
  }
  return Result(std::move(listener));
}

Listener::Listener(Reactor& control, TransportAddress address, base::UniqueFd fd,
                   OnAccept on_accept)
    : control_(control),
      address_(std::move(address)),
      fd_(std::move(fd)),
      on_accept_(std::move(on_accept)) {}

Listener::~Listener() {
  control_.CancelTimer(resume_timer_);
  control_.Unwatch(fd_.get());
}

void Listener::OnFdReady(uint32_t /*events*/) {
  for (int i = 0; i < kMaxAccepts; ++i) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    base::UniqueFd fd(::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&storage), &size,
                                SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      on_accept_(*this, std::move(fd), PeerOf(storage, size));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return PauseAccepting(errno);
    }
  }
}

// The error (no descriptors, say) stays until something else changes: looking again at once would
// keep the loop busy.
void Listener::PauseAccepting(int error) {
  if (reported_ns_ == 0 || control_.now_ns() - reported_ns_ > kAcceptReportPeriodNs) {
    reported_ns_ = control_.now_ns();
    spdlog::error("{}: cannot accept connections: {}", address_.ToString(), std::strerror(error));
  }
  control_.ModifyWatch(fd_.get(), 0);
  resume_timer_ = control_.AddTimer(kPause, [this] { control_.ModifyWatch(fd_.get(), EPOLLIN); });
}

}  // namespace sma::target::nvmf::tcp
