#include "target/vhost_user/connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace sma::target::vhost_user {
namespace {

constexpr size_t kControlBytes = CMSG_SPACE(sizeof(int) * Message::kMaxFds);

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
  return (received.msg_flags & MSG_CTRUNC) == 0 && fds.size() <= Message::kMaxFds;
}

}  // namespace

// Receives into `whole`, of which `already` bytes are there.
Connection::Progress Connection::ReceiveBytes(std::span<std::byte> whole, size_t already) {
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control;
  while (already < whole.size()) {
    iovec rest{whole.data() + already, whole.size() - already};
    msghdr received{};
    received.msg_iov = &rest;
    received.msg_iovlen = 1;
    received.msg_control = control.data();
    received.msg_controllen = control.size();
    const ssize_t size = ::recvmsg(socket_.get(), &received, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Progress::kNothing;
    if (size <= 0 || !TakeFds(received, incoming_.fds)) return Progress::kEnded;
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
  return sent == static_cast<ssize_t>(sizeof header + payload.size());
}

}  // namespace sma::target::vhost_user
