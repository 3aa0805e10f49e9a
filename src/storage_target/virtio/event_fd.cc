// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/event_fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

#include "storage_target/virtio/blocked_write_watch.h"

namespace sma::storage_target::virtio {

// Reads /proc, because the kernel offers no other way to find the type of an anonymous descriptor.
bool PrepareEventFd(int fd) {
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  std::array<char, 64> target;
  const ssize_t size = ::readlink(link.c_str(), target.data(), target.size());
  if (size < 0 ||
      std::string_view(target.data(), static_cast<size_t>(size)) != "anon_inode:[eventfd]") {
    return false;
  }
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

// A full counter (EAGAIN) counts as success: the other side has not read the earlier notification.
bool NotifyEventFd(const base::UniqueFd& fd) {
  if (!fd) return true;
  const uint64_t one = 1;
  BlockedWriteWatch::Calls& calls = BlockedWriteWatch::ForThisThread();
  calls.Begin();
  const ssize_t written = ::write(fd.get(), &one, sizeof one);
  const bool waited = written < 0 && errno == EINTR;
  calls.End();
  return !waited;
}

bool PeerNotifier::Notify(const base::UniqueFd& fd) {
  if (blocked()) return false;
  if (NotifyEventFd(fd)) return true;
  blocked_.store(true, std::memory_order_relaxed);
  return false;
}

}  // namespace sma::storage_target::virtio
