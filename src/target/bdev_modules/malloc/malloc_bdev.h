#pragma once

#include <memory>

#include "base/errno_or.h"
#include "target/bdev/bdev.h"

namespace sma::target::bdev_modules {

/// A disk in memory, whose pages a thread of the disk's has the kernel give from its making on, as
/// far as enough memory is left for others (see BackgroundPopulate): an access before that, or
/// after blocks were unmapped, which gives their pages back, costs the reactor the time for the
/// page. Of `info` the caller sets the name, UUID and size; an empty name becomes Malloc0, Malloc1
/// and so on, as SPDK counts. For Registry::Register. EINVAL: a size of none; ENOMEM: more than the
/// address space has.
base::ErrnoOr<std::unique_ptr<bdev::Bdev>> MakeMallocBdev(bdev::Bdev::Info info);

inline constexpr char kMallocModule[] = "malloc";

}  // namespace sma::target::bdev_modules
