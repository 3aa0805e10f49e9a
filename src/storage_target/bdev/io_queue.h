// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cassert>

#include "base/intrusive_list.h"
#include "storage_target/bdev/io.h"

namespace sma::storage_target::bdev {

/// A FIFO queue of I/Os. The current owner of an I/O, the bdev layer or the module, may put it into
/// one. Not thread-safe.
class IoQueue : public base::IntrusiveList<Io> {
 public:
  IoQueue() = default;
  ~IoQueue() { assert(empty()); }
  IoQueue(const IoQueue&) = delete;
  IoQueue& operator=(const IoQueue&) = delete;
};

}  // namespace sma::storage_target::bdev
