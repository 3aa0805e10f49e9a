#pragma once

#include "base/unique_fd.h"

namespace sma::target::virtio {

/// Makes an eventfd of another process's fit for an I/O reactor, which writes to it and must not
/// wait: false when `fd` is anything else (a file whose owner can let a write wait for ever, say).
bool PrepareEventFd(const base::UniqueFd& fd);

/// Adds 1 to an eventfd that PrepareEventFd accepted; an invalid one is left alone. False if the
/// write had to wait and was ended after some tens of milliseconds: the other process shares the
/// file description, so it can take O_NONBLOCK away again and fill the counter at any time, and no
/// check before the write helps. Use the eventfd no more then. Any thread; interrupts its system
/// calls by SIGURG only while it waits here. Does not allocate but for the first call in a thread.
[[nodiscard]] bool NotifyEventFd(const base::UniqueFd& fd);

}  // namespace sma::target::virtio
