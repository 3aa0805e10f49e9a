#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "target/vfio_user/protocol.h"

namespace sma::target::vfio_user {

/// A message as it came: the payload is valid until the next one is asked for.
struct Message {
  Header header;
  std::span<const std::byte> payload;
  std::vector<base::UniqueFd> fds;
};

/// A connected Unix socket that carries vfio-user messages. Nothing blocks. One thread's.
class MessageSocket {
 public:
  enum class Outcome {
    kMessage,  // a whole message is there, of any content
    kNothing,  // nothing more to read for now
    kEnded,    // the peer is gone, or what it sent cannot be taken: no more can be read
  };

  explicit MessageSocket(base::UniqueFd socket);

  /// Reads what is there of the next message. Ended too when a message is shorter than its header,
  /// longer than any that this side takes, or brings too many descriptors.
  Outcome Receive(Message& message);

  /// Sends a message, its payload in two parts, with a descriptor unless `fd` is negative. False
  /// when the peer is gone or does not read: the connection is of no use any more.
  bool Send(const Header& header, std::span<const std::byte> first,
            std::span<const std::byte> second = {}, int fd = -1);

  int fd() const { return socket_.get(); }

 private:
  enum class Progress { kDone, kNothing, kEnded };
  Progress ReceiveUpTo(size_t size_bytes);

  base::UniqueFd socket_;
  std::unique_ptr<std::byte[]> buffer_;
  size_t received_bytes_ = 0;
  std::vector<base::UniqueFd> fds_;
};

}  // namespace sma::target::vfio_user
