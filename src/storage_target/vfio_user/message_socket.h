// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "storage_target/vfio_user/protocol.h"
#include "storage_target/virtio/received_fd.h"

namespace sma::storage_target::vfio_user {

/// A received message. The payload is valid until the next call of Receive.
struct Message {
  Header header;
  std::span<const std::byte> payload;
  std::vector<virtio::ReceivedFd> fds;
};

/// A connected Unix socket that carries vfio-user messages. Does not block. Not thread-safe.
class MessageSocket {
 public:
  enum class Outcome {
    kMessage,  // a complete message was received; its contents are unchecked
    kNothing,  // nothing more to read for now
    kEnded,    // the peer has disconnected or sent something unacceptable; nothing more can be read
  };

  explicit MessageSocket(base::UniqueFd socket);
  ~MessageSocket();
  MessageSocket(const MessageSocket&) = delete;
  MessageSocket& operator=(const MessageSocket&) = delete;

  /// Reads as much of the next message as is available. Also returns kEnded if a message is shorter
  /// than its header, exceeds the maximum size or has too many descriptors.
  Outcome Receive(Message& message);

  /// Sends a message with its payload in two parts, and with a descriptor unless `fd` is negative.
  /// Returns false if the peer has disconnected or does not read: the connection must not be used
  /// again.
  bool Send(const Header& header, std::span<const std::byte> first,
            std::span<const std::byte> second = {}, int fd = -1);

  int fd() const { return socket_.get(); }

 private:
  enum class Progress { kDone, kNothing, kEnded };
  Progress ReceiveUpTo(size_t size_bytes);

  base::UniqueFd socket_;
  std::unique_ptr<std::byte[]> buffer_;
  size_t received_bytes_ = 0;
  std::vector<virtio::ReceivedFd> fds_;
};

}  // namespace sma::storage_target::vfio_user
