// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_common/listen_check.h"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/strings.h"
#include "base/unique_fd.h"
#include "devices/nvmf_common/comparison.h"
#include "jsonrpc/error.h"

namespace sma::nvmf_common {
namespace {

// Returns 0, or the errno value of socket(2), bind(2) or listen(2).
int ListenError(const addrinfo& address) {
  const base::UniqueFd socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!socket.valid()) return errno;
  const int on = 1;  // like SPDK: recently closed connections do not block the address
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(socket.get(), address.ai_addr, address.ai_addrlen) != 0) return errno;
  return ::listen(socket.get(), 1) != 0 ? errno : 0;
}

}  // namespace

std::string ListenFailureReason(const spdk::TransportAddress& address) {
  if (!base::EqualsIgnoreCase(address.trtype, "tcp")) return "";
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.traddr.c_str(), address.trsvcid.c_str(), &hints, &found) != 0) {
    return "the address is not valid on this host";
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
  switch (const int error = ListenError(*found)) {
    case 0:
      return "";
    case EADDRINUSE:
      return "the port is in use";
    case EADDRNOTAVAIL:
      return "the address does not belong to this host";
    default:
      return ::strerrordesc_np(error);
  }
}

absl::Status WithListenReason(const spdk::TransportAddress& address, const absl::Status& error) {
  std::string why;
  if (jsonrpc::GetTargetError(error)) why = ListenFailureReason(address);
  return absl::Status(
      error.code(),
      fmt::format("listener {}: {}{}{}{}", DescribeAddress(address), why, why.empty() ? "" : " (",
                  std::string(error.message()), why.empty() ? "" : ")"));
}

}  // namespace sma::nvmf_common
