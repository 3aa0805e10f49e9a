// SPDX-License-Identifier: Apache-2.0

#include "base/host_name.h"

#include <netdb.h>

#include <algorithm>

#include "base/strings.h"

namespace sma::base {
namespace {

constexpr size_t kMaxHostNameSize = 253;  // RFC 1035 §2.3.4 without the root's dot
constexpr size_t kMaxLabelSize = 63;      // RFC 1035 §2.3.4

bool IsDecimal(char c) { return c >= '0' && c <= '9'; }

bool IsLabel(std::string_view label) {
  return !label.empty() && label.size() <= kMaxLabelSize && label.front() != '-' &&
         std::all_of(label.begin(), label.end(), [](char c) {
           c = ToLower(c);
           return (c >= 'a' && c <= 'z') || IsDecimal(c) || c == '-' || c == '_';
         });
}

}  // namespace

bool IsHostName(std::string_view text) {
  if (text.ends_with('.')) text.remove_suffix(1);
  if (text.size() > kMaxHostNameSize) return false;
  std::string_view label;
  while (true) {
    const size_t end = text.find('.');
    label = text.substr(0, end);
    if (!IsLabel(label)) return false;
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return !std::all_of(label.begin(), label.end(), IsDecimal);
}

int LookUpHost(const std::string& host, std::string& ip) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error != 0) return error;
  char text[NI_MAXHOST] = "";
  error = ::getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof(text), nullptr, 0,
                        NI_NUMERICHOST);
  ::freeaddrinfo(found);
  ip = text;
  return error;
}

}  // namespace sma::base
