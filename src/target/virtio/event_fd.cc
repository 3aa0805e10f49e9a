#include "target/virtio/event_fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <string>
#include <string_view>

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

}  // namespace sma::target::virtio
