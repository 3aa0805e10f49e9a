#pragma once

#include <utility>

#include "target/nvmf/control_plane.h"
#include "target/nvmf/queue_pair.h"
#include "target/reactor/reactor.h"

namespace sma::target::nvmf {

/// For a command that needs the control reactor's tables: runs `work(ControlPlane&, answer)` there;
/// when that calls `answer(result)`, from whatever thread, once, now or later, `then(result)` runs
/// in the queue pair's own reactor and completes the command. The queue pair lives until then.
template <typename Work, typename Then>
void CallControlAsync(QueuePair& queue_pair, Work work, Then then) {
  queue_pair.BeginAsync();
  ControlPlane& control_plane = queue_pair.control_plane();
  control_plane.control().Post([&, work = std::move(work), then = std::move(then)] {
    work(control_plane, [&queue_pair, then](const auto& result) {
      queue_pair.reactor().Post(
          [&queue_pair, then, result] { queue_pair.EndAsync([&] { then(result); }); });
    });
  });
}

/// The same for `work(ControlPlane&)` that returns its result. `then` is left out when the
/// connection has ended meanwhile: there is nobody to answer.
template <typename Work, typename Then>
void CallControl(QueuePair& queue_pair, Work work, Then then) {
  CallControlAsync(
      queue_pair, [work](ControlPlane& control, const auto& answer) { answer(work(control)); },
      [&queue_pair, then](const auto& result) {
        if (!queue_pair.closed()) then(result);
      });
}

}  // namespace sma::target::nvmf
