// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace sma::bench {

constexpr size_t kHeaderBytes = 24;
constexpr size_t kMaxIovs = 512;

[[noreturn]] inline void Die(const char* what) {
  std::perror(what);
  std::exit(1);
}

/// Sends a stream of messages of the same size in bulk. Their contents do not matter.
class Sender {
 public:
  Sender(size_t message_bytes, const std::vector<char>& disk, bool random)
      : message_bytes_(message_bytes), disk_(disk), random_(random) {}

  void Add(uint64_t messages) { left_bytes_ += messages * message_bytes_; }
  bool idle() const { return left_bytes_ == 0; }

  /// Sends as much as the socket accepts.
  void Send(int fd) {
    while (left_bytes_ > 0) {
      size_t iov_count = Fill();
      msghdr message{};
      message.msg_iov = iovs_.data();
      message.msg_iovlen = iov_count;
      ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno == EAGAIN) return;
      if (sent < 0) Die("sendmsg");
      Consume(static_cast<uint64_t>(sent));
    }
  }

 private:
  // Sends a header and data for each message, continuing where the last call stopped.
  size_t Fill() {
    size_t count = 0;
    uint64_t left = left_bytes_;
    size_t in_message = sent_of_message_;
    size_t place = disk_place_;
    uint64_t number = message_;
    while (left > 0 && count + 1 < kMaxIovs) {
      bool in_header = in_message < kHeaderBytes;
      size_t end = in_header ? std::min(kHeaderBytes, message_bytes_) : message_bytes_;
      if (!in_header && random_) place = RandomPlace(number) + in_message - kHeaderBytes;
      if (!in_header && place + (end - in_message) > disk_.size()) place = 0;
      const char* from = in_header ? header_.data() : disk_.data() + place;
      size_t size = end - in_message;
      iovs_[count++] = {const_cast<char*>(from), size};
      if (!in_header) place += size;
      left -= size;
      in_message = end == message_bytes_ ? 0 : end;
      if (in_message == 0) ++number;
    }
    return count;
  }

  // Returns the address of a message's data. Always returns the same address for a message, because
  // its data may be sent in parts.
  size_t RandomPlace(uint64_t number) const {
    const size_t data_bytes = message_bytes_ - kHeaderBytes;
    std::minstd_rand random(static_cast<uint32_t>(number * 2654435761u + 1));
    return random() % (disk_.size() / data_bytes) * data_bytes;
  }

  void Consume(uint64_t bytes) {
    left_bytes_ -= bytes;
    disk_place_ = (disk_place_ + bytes) % (disk_.size() - message_bytes_);
    message_ += (sent_of_message_ + bytes) / message_bytes_;
    sent_of_message_ = (sent_of_message_ + bytes) % message_bytes_;
  }

  const size_t message_bytes_;
  const std::vector<char>& disk_;
  const bool random_;
  std::array<char, kHeaderBytes> header_{};
  std::array<iovec, kMaxIovs> iovs_;
  uint64_t left_bytes_ = 0;
  uint64_t message_ = 0;  // sent completely
  size_t sent_of_message_ = 0;
  size_t disk_place_ = 0;
};

/// Receives messages on a connection and counts the complete ones.
struct Connection {
  Connection(base::UniqueFd socket, size_t send_bytes, const std::vector<char>& disk,
             bool random = false)
      : fd(std::move(socket)), sender(send_bytes, disk, random) {}

  /// Returns how many messages of `message_bytes` have been received completely; -1 if the other
  /// end has closed the connection.
  int64_t Receive(std::vector<char>& buffer, size_t message_bytes) {
    ssize_t size = recv(fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (size <= 0) return -1;
    received_bytes += static_cast<size_t>(size);
    auto messages = static_cast<int64_t>(received_bytes / message_bytes);
    received_bytes %= message_bytes;
    return messages;
  }

  base::UniqueFd fd;
  Sender sender;
  size_t received_bytes = 0;
};

}  // namespace sma::bench
