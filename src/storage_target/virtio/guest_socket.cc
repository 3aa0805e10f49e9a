// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/guest_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace sma::storage_target::virtio {
namespace {

GuestSocketAccess guest_socket_access;

}  // namespace

void SetGuestSocketAccess(const GuestSocketAccess& access) { guest_socket_access = access; }

// Linux creates the file with the socket's mode, less the umask. The final mode is set after the
// group.
int BindGuestSocket(int fd, const sockaddr_un& address) {
  const GuestSocketAccess& access = guest_socket_access;
  if (::fchmod(fd, 0600) != 0) return errno;
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return errno;
  int error = 0;
  if (access.has_group && ::lchown(address.sun_path, static_cast<uid_t>(-1), access.group) != 0) {
    error = errno;
  }
  if (error == 0 && ::chmod(address.sun_path, access.mode) != 0) error = errno;
  if (error != 0) ::unlink(address.sun_path);
  return error;
}

}  // namespace sma::storage_target::virtio
