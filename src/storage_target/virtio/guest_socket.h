// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/types.h>
#include <sys/un.h>

namespace sma::storage_target::virtio {

/// Who may connect to the sockets of vhost-user and vfio-user devices, regardless of the process's
/// umask. Every process that can connect has access to the disk.
struct GuestSocketAccess {
  mode_t mode = 0600;  // permission bits; connecting requires write permission
  bool has_group = false;
  gid_t group = 0;
};

/// Sets the access to sockets that are bound later. Must be called before the first of them is
/// bound, on the control reactor's thread.
void SetGuestSocketAccess(const GuestSocketAccess& access);

/// Binds a Unix socket (bind(2)) in such a way that it never accepts connections from other users.
/// Returns 0 or an errno value; removes the socket's file if its group cannot be set. Used only on
/// the control reactor.
int BindGuestSocket(int fd, const sockaddr_un& address);

}  // namespace sma::storage_target::virtio
