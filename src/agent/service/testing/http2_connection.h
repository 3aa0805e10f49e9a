// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace sma::service {

// HTTP/2 frame types and flags (RFC 9113 §6).
inline constexpr char kData = 0;
inline constexpr char kHeaders = 1;
inline constexpr char kRstStream = 3;
inline constexpr char kSettings = 4;
inline constexpr char kPing = 6;
inline constexpr char kGoAway = 7;
inline constexpr char kAck = 1;
inline constexpr char kEndStream = 1;
inline constexpr char kEndHeaders = 4;
inline constexpr size_t kFrameHeaderBytes = 9;

/// Returns a TCP connection to a port of 127.0.0.1; an invalid descriptor on failure. For tests.
inline base::UniqueFd ConnectTo(uint16_t port) {
  base::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0) fd.Reset();
  return fd;
}

/// An HTTP/2 connection for tests, with only the functions that pings and calls need.
class Http2Connection {
 public:
  explicit Http2Connection(uint16_t port) : fd_(ConnectTo(port)) {
    EXPECT_TRUE(fd_);
    Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    SendFrame(kSettings, "");
  }

  void SendFrame(char type, std::string_view payload) { SendFrame(type, 0, 0, payload); }

  void SendFrame(char type, char flags, uint32_t stream, std::string_view payload) {
    Send(MakeFrame(type, flags, stream, payload));
  }

  static std::string MakeFrame(char type, char flags, uint32_t stream, std::string_view payload) {
    std::string frame(kFrameHeaderBytes, '\0');
    frame[1] = static_cast<char>(payload.size() >> 8);
    frame[2] = static_cast<char>(payload.size());
    frame[3] = type;
    frame[4] = flags;
    for (int i = 0; i < 4; ++i) frame[5 + i] = static_cast<char>(stream >> (24 - 8 * i));
    return frame.append(payload);
  }

  /// Returns the header block of a call to `method` of sma.StorageManagementAgent (RFC 7541 section
  /// 6.2.2: literals without indexing). An empty `timeout` omits that header.
  static std::string CallHeaders(std::string_view method, std::string_view timeout) {
    std::string block;
    auto add = [&block](std::string_view name, std::string_view value) {
      block.push_back('\0');
      for (std::string_view text : {name, value}) {
        block.push_back(static_cast<char>(text.size()));
        block.append(text);
      }
    };
    add(":method", "POST");
    add(":scheme", "http");
    add(":path", "/sma.StorageManagementAgent/" + std::string(method));
    add(":authority", "test");
    add("content-type", "application/grpc");
    add("te", "trailers");
    if (!timeout.empty()) add("grpc-timeout", timeout);
    return block;
  }

  struct Frame {
    char type = 0;
    char flags = 0;
  };

  /// Reads the next frame. Returns false if the connection ends or no frame arrives in time.
  bool Read(Frame& frame) {
    if (!Fill(kFrameHeaderBytes)) return false;
    auto byte = [this](size_t i) { return static_cast<size_t>(static_cast<uint8_t>(buffer_[i])); };
    size_t length = byte(0) << 16 | byte(1) << 8 | byte(2);
    frame = {buffer_[3], buffer_[4]};
    if (!Fill(kFrameHeaderBytes + length)) return false;
    buffer_.erase(0, kFrameHeaderBytes + length);
    return true;
  }

  void Send(std::string_view bytes) {
    EXPECT_EQ(send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }

 private:
  bool Fill(size_t bytes) {
    while (buffer_.size() < bytes) {
      pollfd ready{fd_.get(), POLLIN, 0};
      char chunk[4096];
      if (poll(&ready, 1, 10'000) != 1) return false;
      ssize_t got = recv(fd_.get(), chunk, sizeof(chunk), 0);
      if (got <= 0) return false;
      buffer_.append(chunk, static_cast<size_t>(got));
    }
    return true;
  }

  base::UniqueFd fd_;
  std::string buffer_;
};

}  // namespace sma::service
