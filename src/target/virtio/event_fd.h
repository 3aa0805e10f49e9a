#pragma once

#include "base/unique_fd.h"

namespace sma::target::virtio {

/// Makes an eventfd of another process's fit for an I/O reactor, which writes to it and must not
/// wait: false when `fd` is anything else (a file whose owner can let a write wait for ever, say).
bool PrepareEventFd(const base::UniqueFd& fd);

}  // namespace sma::target::virtio
