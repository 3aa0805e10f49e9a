// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace sma::storage_target::virtio {

/// Closes a descriptor in a separate thread that may block. Closing the last descriptor of a file
/// that another process has chosen can block for as long as that process likes, for example a TCP
/// socket with SO_LINGER or a file in FUSE. May be called from any thread; does not block.
void CloseInBackground(base::UniqueFd fd);

/// Unmaps a whole mapping of a file in a separate thread, because this takes about 20 ms for each
/// GiB that was accessed, and may close the file. Unmaps it in parts, so that other threads that
/// map memory do not wait for all of it. `page_bytes` is the size of the file's pages. If too many
/// mappings are waiting already, the caller's thread unmaps. May be called from any thread.
void UnmapInBackground(std::span<std::byte> mapping, uint64_t page_bytes);

/// Owns a descriptor of any type that another process has sent. Closed by CloseInBackground.
class ReceivedFd {
 public:
  explicit ReceivedFd(int fd) : fd_(fd) {}
  ReceivedFd(ReceivedFd&& other) noexcept = default;
  ReceivedFd& operator=(ReceivedFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~ReceivedFd() {
    if (fd_) CloseInBackground(std::move(fd_));
  }

  int get() const { return fd_.get(); }
  /// Releases ownership, once the descriptor is known to be of a type whose close does not block.
  base::UniqueFd Take() { return std::move(fd_); }

 private:
  base::UniqueFd fd_;
};

/// Like base::ReceiveWithFds, but does not block. Appends all received descriptors to `fds`. Fails
/// with EMFILE if one of them is from the reserve of the control plane (base::DescriptorReserve),
/// because a guest may send as many as it likes: the connection must then be closed.
ssize_t ReceiveWithFds(int socket, std::span<std::byte> bytes, std::vector<ReceivedFd>& fds);

/// Returns true if a device that a guest uses, and that has `count` of the guest's descriptors, may
/// keep the received descriptor `fd` too: always up to 16, and more if they are at most half of
/// what is free outside the reserve, so that other guests can connect.
bool MayKeepDescriptor(int fd, size_t count);

}  // namespace sma::storage_target::virtio
