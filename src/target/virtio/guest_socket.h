#pragma once

#include <sys/types.h>
#include <sys/un.h>

namespace sma::target::virtio {

/// Who may connect to the sockets that VMMs find devices at (vhost-user, vfio-user), whatever the
/// process's umask: whoever connects gets at the disk.
struct GuestSocketAccess {
  mode_t mode = 0600;  // permission bits; to connect takes write permission
  bool has_group = false;
  gid_t group = 0;
};

/// For sockets that are bound from now on. Called before the first, in the control reactor's
/// thread.
void SetGuestSocketAccess(const GuestSocketAccess& access);

/// bind(2) of a Unix socket, which nobody else can connect to at any time. 0 or an errno value; the
/// socket's file is removed again if its group cannot be set. Control reactor only.
int BindGuestSocket(int fd, const sockaddr_un& address);

}  // namespace sma::target::virtio
