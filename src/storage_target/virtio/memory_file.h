// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <string_view>

namespace sma::storage_target::virtio {

/// Returns true if guest memory may be in a file of this file system (f_type of statfs(2)): one in
/// memory (memfd, tmpfs, hugetlbfs) or on a local disk. On others, an access to a page can block
/// forever, and the reactor with it, if a server does not respond (NFS, CIFS, 9p, Ceph) or a
/// process does not serve it (FUSE). Overlays are refused because they may be stacked on such file
/// systems.
bool MayHoldGuestMemory(int64_t file_system);

/// Returns the name of a common file system that is refused; "another file system" for all others.
std::string_view FileSystemName(int64_t file_system);

}  // namespace sma::storage_target::virtio
