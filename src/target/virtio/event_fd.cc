#include "target/virtio/event_fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

#include "target/virtio/blocked_write_watch.h"

namespace sma::target::virtio {

// The kernel has no other way to ask what an anonymous descriptor is.
bool PrepareEventFd(const base::UniqueFd& fd) {
  const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
  std::array<char, 64> target;
  const ssize_t size = ::readlink(link.c_str(), target.data(), target.size());
  if (size < 0 ||
      std::string_view(target.data(), static_cast<size_t>(size)) != "anon_inode:[eventfd]") {
    return false;
  }
  const int flags = ::fcntl(fd.get(), F_GETFL);
  return flags >= 0 && ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) == 0;
}

// A full counter (EAGAIN) is as good: the other side has not read it.
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

}  // namespace sma::target::virtio
