#pragma once

#include <utility>

#include "target/nvmf/control_plane.h"
#include "target/nvmf/queue_pair.h"
#include "target/reactor/reactor.h"

namespace sma::target::nvmf {

/// For a command that needs the control reactor's tables: runs `work(ControlPlane&)` there, then
/// `then(result)`, which completes the command, in the queue pair's own reactor. The queue pair
/// lives until then.
template <typename Work, typename Then>
void CallControl(QueuePair& queue_pair, Work work, Then then) {
  queue_pair.BeginAsync();
  ControlPlane& control_plane = queue_pair.control_plane();
  control_plane.control().Post([&, work = std::move(work), then = std::move(then)] {
    auto result = work(control_plane);
    queue_pair.reactor().Post([&queue_pair, then, result = std::move(result)] {
      queue_pair.EndAsync([&] { then(result); });
    });
  });
}

}  // namespace sma::target::nvmf
