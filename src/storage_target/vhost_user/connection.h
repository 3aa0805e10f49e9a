// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "base/unique_fd.h"
#include "storage_target/vhost_user/message.h"

namespace sma::storage_target::vhost_user {

/// The socket of one front end: splits the stream into messages. Does not block. Not thread-safe.
class Connection {
 public:
  enum class Outcome {
    kMessage,  // a complete message was received; its contents are unchecked
    kNothing,  // nothing more to read for now
    kEnded,    // the peer has disconnected or sent something unacceptable; nothing more can be read
  };

  /// `socket` is a connected Unix stream socket.
  explicit Connection(base::UniqueFd socket) : socket_(std::move(socket)) {}
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Reads as much of the next message as is available. Also returns kEnded if the payload is
  /// larger than Message::kMaxPayloadBytes or if there are too many descriptors.
  Outcome Receive(Message& message);

  /// Sends a message, with a descriptor unless `fd` is negative. Returns false if the peer has
  /// disconnected or does not read: the connection must not be used again.
  bool Send(const Header& header, std::span<const std::byte> payload, int fd = -1);

  int fd() const { return socket_.get(); }

 private:
  enum class Progress { kDone, kNothing, kEnded };
  Progress ReceiveBytes(std::span<std::byte> whole, size_t already);

  base::UniqueFd socket_;
  Message incoming_;
  size_t received_bytes_ = 0;  // of header and payload together
};

}  // namespace sma::storage_target::vhost_user
