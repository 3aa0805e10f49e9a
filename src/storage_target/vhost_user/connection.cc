// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vhost_user/connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/fd_passing.h"

namespace sma::storage_target::vhost_user {

// Closing the socket also closes the descriptors of unread messages, which can block.
Connection::~Connection() { virtio::CloseInBackground(std::move(socket_)); }

// Receives the rest of `whole`, of which `already` bytes have been received.
Connection::Progress Connection::ReceiveBytes(std::span<std::byte> whole, size_t already) {
  while (already < whole.size()) {
    const ssize_t size =
        virtio::ReceiveWithFds(socket_.get(), whole.subspan(already), incoming_.fds);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Progress::kNothing;
    if (size <= 0 || incoming_.fds.size() > Message::kMaxFds) return Progress::kEnded;
    already += static_cast<size_t>(size);
    received_bytes_ += static_cast<size_t>(size);
  }
  return Progress::kDone;
}

Connection::Outcome Connection::Receive(Message& message) {
  constexpr size_t kHeaderBytes = sizeof(Header);
  const std::span<std::byte> header(reinterpret_cast<std::byte*>(&incoming_.header), kHeaderBytes);
  Progress progress = ReceiveBytes(header, std::min(received_bytes_, kHeaderBytes));
  if (progress == Progress::kDone) {
    if (incoming_.header.payload_bytes > Message::kMaxPayloadBytes) return Outcome::kEnded;
    const std::span<std::byte> payload(incoming_.payload.data(), incoming_.header.payload_bytes);
    progress = ReceiveBytes(payload, received_bytes_ - kHeaderBytes);
  }
  if (progress == Progress::kEnded) return Outcome::kEnded;
  if (progress == Progress::kNothing) return Outcome::kNothing;
  message = std::exchange(incoming_, Message());
  received_bytes_ = 0;
  return Outcome::kMessage;
}

bool Connection::Send(const Header& header, std::span<const std::byte> payload, int fd) {
  std::array<iovec, 2> parts{{{const_cast<Header*>(&header), sizeof header},
                              {const_cast<std::byte*>(payload.data()), payload.size()}}};
  const std::span<const int> fds(&fd, fd >= 0 ? 1 : 0);
  const ssize_t sent = base::SendWithFds(socket_.get(), parts, fds, MSG_DONTWAIT);
  return sent == static_cast<ssize_t>(sizeof header + payload.size());
}

}  // namespace sma::storage_target::vhost_user
