// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/listener.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>

#include "absl/strings/numbers.h"
#include "base/descriptor_limit.h"

namespace sma::storage_target::nvmf::tcp {
namespace {

struct AddrInfoDeleter {
  void operator()(addrinfo* info) const { ::freeaddrinfo(info); }
};

std::unique_ptr<addrinfo, AddrInfoDeleter> Resolve(const TransportAddress& address) {
  addrinfo hints{};
  hints.ai_family = address.family == nvme::AddressFamily::kIpv6 ? AF_INET6 : AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  // Checks the port, because getaddrinfo(3) accepts numbers above 65535 and truncates them.
  uint32_t port = 0;
  if (!absl::SimpleAtoi(address.service_id, &port) || port > UINT16_MAX) return nullptr;
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
  if (base::IsReservedForJsonRpc(fd.get())) return Result::Error(EMFILE);
  int yes = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  // Leaves the port available for an IPv4 listener.
  if (info->ai_family == AF_INET6)
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
  if (::bind(fd.get(), info->ai_addr, info->ai_addrlen) != 0 ||
      ::listen(fd.get(), SOMAXCONN) != 0) {
    return Result::Error(errno);
  }
  std::unique_ptr<Listener> listener(
      new Listener(control, address, std::move(fd), std::move(on_accept)));
  if (int error = listener->acceptor_.SetAccepting(true); error != 0) return Result::Error(error);
  return Result(std::move(listener));
}

Listener::Listener(Reactor& control, TransportAddress address, base::UniqueFd fd,
                   OnAccept on_accept)
    : address_(std::move(address)),
      on_accept_(std::move(on_accept)),
      acceptor_(control, std::move(fd), {.name = address_.ToString()}, [this](AcceptedPeer peer) {
        on_accept_(*this, std::move(peer.socket), PeerOf(peer.address, peer.address_bytes));
      }) {}

}  // namespace sma::storage_target::nvmf::tcp
