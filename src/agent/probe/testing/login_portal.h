// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <thread>

#include "base/unique_fd.h"

namespace sma::probe {

/// An iSCSI portal for tests that answers the first login of each connection with a given status,
/// or not at all. Serves one connection at a time.
class LoginPortal {
 public:
  /// `status` is Status-Class and Status-Detail (RFC 7143 §11.13.5), or -1 for no answer. `port` 0
  /// selects a free one.
  explicit LoginPortal(int status, uint16_t port = 0)
      : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    const int one = 1;
    ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(name);
    auto* address = reinterpret_cast<sockaddr*>(&name);
    if (::bind(listener_.get(), address, size) != 0 || ::listen(listener_.get(), 8) != 0 ||
        ::getsockname(listener_.get(), address, &size) != 0) {
      std::abort();
    }
    port_ = std::to_string(ntohs(name.sin_port));
    thread_ = std::thread([this, status] { Run(status); });
  }
  ~LoginPortal() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  uint16_t port() const { return static_cast<uint16_t>(std::stoi(port_)); }
  std::string portal() const { return "127.0.0.1:" + port_; }

 private:
  void Run(int status) {
    while (true) {
      const base::UniqueFd client(::accept(listener_.get(), nullptr, nullptr));
      if (!client.valid()) return;
      Serve(client.get(), status);
    }
  }
  static void Serve(int client, int status) {
    std::array<uint8_t, 48> request{};  // the header (RFC 7143 §11.12)
    if (::recv(client, request.data(), request.size(), MSG_WAITALL) == 48 && status >= 0) {
      std::array<uint8_t, 48> response{0x23, 0x87};  // a login response to the full feature phase
      std::copy_n(&request[16], 4, &response[16]);   // initiator task tag
      response[36] = static_cast<uint8_t>(status >> 8);
      response[37] = static_cast<uint8_t>(status);
      ::send(client, response.data(), response.size(), MSG_NOSIGNAL);
    }
    char byte = 0;
    while (::recv(client, &byte, 1, 0) > 0) {  // until the initiator disconnects
    }
  }

  base::UniqueFd listener_;
  std::string port_;
  std::thread thread_;
};

}  // namespace sma::probe
