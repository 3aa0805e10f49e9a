#pragma once

#include <utility>

#include "target/nvmf/queue_pair.h"
#include "target/nvmf/target.h"
#include "target/reactor/reactor.h"

namespace sma::target::nvmf {

/// For a command that needs the control reactor's tables: runs `work(Target&)` there, then
/// `then(result)`, which completes the command, in the queue pair's own reactor. The queue pair
/// lives until then.
template <typename Work, typename Then>
void CallControl(QueuePair& queue_pair, Work work, Then then) {
  queue_pair.BeginAsync();
  queue_pair.target().control().Post([&queue_pair, work = std::move(work), then = std::move(then)] {
    auto result = work(queue_pair.target());
    queue_pair.reactor().Post([&queue_pair, then, result = std::move(result)] {
      queue_pair.EndAsync([&] { then(result); });
    });
  });
}

}  // namespace sma::target::nvmf
