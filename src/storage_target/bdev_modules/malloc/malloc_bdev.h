// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>

#include "base/errno_or.h"
#include "storage_target/bdev/bdev.h"

namespace sma::storage_target::bdev_malloc {

/// Creates a disk in memory. A thread of the disk populates its pages in the background, as long as
/// enough memory remains available (see BackgroundPopulate). An access to a page that is not
/// populated yet, or that an unmap has discarded, costs the reactor the time of a page fault. The
/// caller sets the name, UUID and size of `info`; an empty name becomes Malloc0, Malloc1 and so on,
/// as in SPDK. The result is passed to Registry::Register. Errors: EINVAL if the size is 0; ENOMEM
/// if the address space is exhausted.
base::ErrnoOr<std::unique_ptr<bdev::Bdev>> MakeMallocBdev(bdev::Bdev::Info info);

inline constexpr char kMallocModule[] = "malloc";

}  // namespace sma::storage_target::bdev_malloc
