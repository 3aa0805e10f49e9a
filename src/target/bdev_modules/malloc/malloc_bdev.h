#pragma once

#include <memory>

#include "base/errno_or.h"
#include "target/bdev/bdev.h"

namespace sma::target::bdev_modules {

/// A disk in memory, which the kernel gives as it is written to (so a fresh disk costs nothing) and
/// takes back when blocks are unmapped. Of `info` the caller sets the name, UUID and size; an empty
/// name becomes Malloc0, Malloc1 and so on, as SPDK counts. For Registry::Register. EINVAL: a size
/// of none; ENOMEM: more than the address space has.
base::ErrnoOr<std::unique_ptr<bdev::Bdev>> MakeMallocBdev(bdev::Bdev::Info info);

inline constexpr char kMallocModule[] = "malloc";

}  // namespace sma::target::bdev_modules
