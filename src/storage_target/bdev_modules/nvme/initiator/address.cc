// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/address.h"

#include <netdb.h>

#include <charconv>
#include <cstring>

namespace sma::storage_target::initiator {

std::optional<Address> Address::Parse(std::string_view traddr, std::string_view trsvcid) {
  uint16_t port = 0;
  const char* text_end = trsvcid.data() + trsvcid.size();
  auto [end, error] = std::from_chars(trsvcid.data(), text_end, port);
  if (error != std::errc() || end != text_end) return std::nullopt;
  std::optional<base::IpAddress> ip = base::IpAddress::Parse(traddr);
  if (!ip) return std::nullopt;
  return Address{*ip, port};
}

std::string Address::ToString() const {
  std::string text = ip.is_v6() ? "[" + ip.ToString() + "]" : ip.ToString();
  return text + ":" + std::to_string(port);
}

socklen_t Address::ToSockaddr(sockaddr_storage& storage) const {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(ip.ToString().c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
    return 0;
  }
  socklen_t size = found->ai_addrlen;
  std::memcpy(&storage, found->ai_addr, size);
  freeaddrinfo(found);
  return size;
}

}  // namespace sma::storage_target::initiator
