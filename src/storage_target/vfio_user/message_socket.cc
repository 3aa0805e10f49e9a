// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vfio_user/message_socket.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/fd_passing.h"
#include "storage_target/vfio_user/version.h"

namespace sma::storage_target::vfio_user {
namespace {

// The largest payload is a maximum transfer with its header; messages about interrupts and
// capabilities are smaller.
constexpr size_t kMaxMessageBytes = sizeof(Header) + sizeof(RegionAccess) + kMaxTransferBytes;

}  // namespace

MessageSocket::MessageSocket(base::UniqueFd socket)
    : socket_(std::move(socket)),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(kMaxMessageBytes)) {}

// Closing the socket also closes the descriptors of unread messages, which can block.
MessageSocket::~MessageSocket() { virtio::CloseInBackground(std::move(socket_)); }

MessageSocket::Progress MessageSocket::ReceiveUpTo(size_t size_bytes) {
  while (received_bytes_ < size_bytes) {
    const std::span<std::byte> rest(buffer_.get() + received_bytes_, size_bytes - received_bytes_);
    const ssize_t size = virtio::ReceiveWithFds(socket_.get(), rest, fds_);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Progress::kNothing;
    if (size <= 0 || fds_.size() > kMaxMessageFds) return Progress::kEnded;
    received_bytes_ += static_cast<size_t>(size);
  }
  return Progress::kDone;
}

MessageSocket::Outcome MessageSocket::Receive(Message& message) {
  Progress progress = ReceiveUpTo(sizeof(Header));
  if (progress == Progress::kDone) {
    std::memcpy(&message.header, buffer_.get(), sizeof(Header));
    const uint32_t message_bytes = message.header.message_bytes;
    if (message_bytes < sizeof(Header) || message_bytes > kMaxMessageBytes) return Outcome::kEnded;
    progress = ReceiveUpTo(message_bytes);
  }
  if (progress == Progress::kEnded) return Outcome::kEnded;
  if (progress == Progress::kNothing) return Outcome::kNothing;
  message.payload = {buffer_.get() + sizeof(Header), received_bytes_ - sizeof(Header)};
  message.fds = std::exchange(fds_, {});
  received_bytes_ = 0;
  return Outcome::kMessage;
}

bool MessageSocket::Send(const Header& header, std::span<const std::byte> first,
                         std::span<const std::byte> second, int fd) {
  std::array<iovec, 3> parts{{{const_cast<Header*>(&header), sizeof header},
                              {const_cast<std::byte*>(first.data()), first.size()},
                              {const_cast<std::byte*>(second.data()), second.size()}}};
  const std::span<const int> fds(&fd, fd >= 0 ? 1 : 0);
  const ssize_t sent = base::SendWithFds(socket_.get(), parts, fds, MSG_DONTWAIT);
  return sent == static_cast<ssize_t>(sizeof header + first.size() + second.size());
}

}  // namespace sma::storage_target::vfio_user
