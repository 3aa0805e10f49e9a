// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/send_batch.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace sma::storage_target::initiator {

std::byte* SendBatch::AppendHeader(size_t size_bytes) {
  std::byte* header = headers_.data() + header_bytes_;
  header_bytes_ += size_bytes;
  std::memset(header, 0, size_bytes);
  AppendData(header, size_bytes);
  return header;
}

void SendBatch::AppendData(const void* base, size_t size_bytes) {
  if (begin_ < end_) {
    iovec& last = iovs_[end_ - 1];
    if (static_cast<std::byte*>(last.iov_base) + last.iov_len == base) {
      last.iov_len += size_bytes;
      return;
    }
  }
  iovs_[end_++] = {const_cast<void*>(base), size_bytes};
}

int SendBatch::Send(int fd) {
  while (!empty()) {
    msghdr message{};
    message.msg_iov = iovs_.data() + begin_;
    message.msg_iovlen = end_ - begin_;
    ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
    Consume(static_cast<size_t>(sent));
  }
  return 0;
}

void SendBatch::Consume(size_t size_bytes) {
  while (size_bytes > 0) {
    iovec& first = iovs_[begin_];
    if (size_bytes < first.iov_len) {
      first.iov_base = static_cast<std::byte*>(first.iov_base) + size_bytes;
      first.iov_len -= size_bytes;
      return;
    }
    size_bytes -= first.iov_len;
    ++begin_;
  }
  if (empty()) Clear();
}

}  // namespace sma::storage_target::initiator
