// SPDX-License-Identifier: Apache-2.0

#include "base/ip_address.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>
#include <cctype>

namespace sma::base {
namespace {

// Returns true if `text` can be the name or number of a network interface.
bool IsScope(std::string_view text) {
  return !text.empty() && text.size() < IF_NAMESIZE &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return std::isgraph(static_cast<unsigned char>(c)) != 0; });
}

}  // namespace

std::optional<IpAddress> IpAddress::Parse(std::string_view text) {
  IpAddress address;
  size_t percent = text.find('%');
  if (percent != std::string_view::npos) {
    address.scope_ = text.substr(percent + 1);
    if (!IsScope(address.scope_)) return std::nullopt;
    text = text.substr(0, percent);
  }
  if (text.find('\0') != std::string_view::npos) return std::nullopt;
  const std::string terminated(text);
  if (inet_pton(AF_INET6, terminated.c_str(), address.bytes_.data()) == 1) {
    address.is_v6_ = true;
    return address;
  }
  bool is_v4 =
      address.scope_.empty() && inet_pton(AF_INET, terminated.c_str(), address.bytes_.data()) == 1;
  return is_v4 ? std::optional(address) : std::nullopt;
}

std::string IpAddress::ToString() const {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(is_v6_ ? AF_INET6 : AF_INET, bytes_.data(), text, sizeof(text));
  std::string result(text);
  if (!scope_.empty()) result.append("%").append(scope_);
  return result;
}

}  // namespace sma::base
