#include "target/vfio_user/message_socket.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "target/vfio_user/version.h"

namespace sma::target::vfio_user {
namespace {

// The largest payload is a full transfer behind its description; those that describe interrupts and
// capabilities are smaller.
constexpr size_t kMaxMessageBytes = sizeof(Header) + sizeof(RegionAccess) + kMaxTransferBytes;
constexpr size_t kControlBytes = CMSG_SPACE(sizeof(int) * kMaxMessageFds);

// Owns all descriptors of a received message; false when more came than are taken.
bool TakeFds(msghdr& received, std::vector<base::UniqueFd>& fds) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&received); part != nullptr;
       part = CMSG_NXTHDR(&received, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return (received.msg_flags & MSG_CTRUNC) == 0 && fds.size() <= kMaxMessageFds;
}

}  // namespace

MessageSocket::MessageSocket(base::UniqueFd socket)
    : socket_(std::move(socket)),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(kMaxMessageBytes)) {}

MessageSocket::Progress MessageSocket::ReceiveUpTo(size_t size_bytes) {
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control;
  while (received_bytes_ < size_bytes) {
    iovec rest{buffer_.get() + received_bytes_, size_bytes - received_bytes_};
    msghdr received{};
    received.msg_iov = &rest;
    received.msg_iovlen = 1;
    received.msg_control = control.data();
    received.msg_controllen = control.size();
    const ssize_t size = ::recvmsg(socket_.get(), &received, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Progress::kNothing;
    if (size <= 0 || !TakeFds(received, fds_)) return Progress::kEnded;
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
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  ssize_t sent;
  do {
    sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(sizeof header + first.size() + second.size());
}

}  // namespace sma::target::vfio_user
