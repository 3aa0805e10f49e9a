#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "base/unique_fd.h"
#include "target/vhost_user/message.h"

namespace sma::target::vhost_user {

/// The socket of one front end: cuts the stream into messages. Nothing blocks. One thread's.
class Connection {
 public:
  enum class Outcome {
    kMessage,  // a whole message is there, of any content
    kNothing,  // nothing more to read for now
    kEnded,    // the peer is gone, or what it sent cannot be taken: no more can be read
  };

  /// A connected Unix stream socket.
  explicit Connection(base::UniqueFd socket) : socket_(std::move(socket)) {}

  /// Reads what is there of the next message. Ended too when a payload is larger than
  /// Message::kMaxPayloadBytes or too many descriptors come.
  Outcome Receive(Message& message);

  /// Sends a message, with a descriptor unless `fd` is negative. False when the peer is gone or
  /// does not read: the connection is of no use any more.
  bool Send(const Header& header, std::span<const std::byte> payload, int fd = -1);

  int fd() const { return socket_.get(); }

 private:
  enum class Progress { kDone, kNothing, kEnded };
  Progress ReceiveBytes(std::span<std::byte> whole, size_t already);

  base::UniqueFd socket_;
  Message incoming_;
  size_t received_bytes_ = 0;  // of header and payload together
};

}  // namespace sma::target::vhost_user
