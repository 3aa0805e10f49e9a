// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <utility>

#include "storage_target/nvmf/control_plane.h"
#include "storage_target/nvmf/queue_pair.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf {

/// For commands that need the tables of the control reactor: runs `work(ControlPlane&, answer)`
/// there. `work` must call `answer(result)` once, from any thread, possibly later. `then(result)`
/// then runs on the queue pair's reactor and completes the command. The queue pair is kept alive
/// until then.
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

/// Like CallControlAsync, for `work(ControlPlane&)` that returns its result, and for one command of
/// the queue pair at a time, so that a host cannot occupy the control reactor with many commands at
/// once: if another one is in progress, Execute is called again for `request` when it has ended.
/// `then` is not called if the connection has ended meanwhile, because there is no host to reply
/// to.
template <typename Work, typename Then>
void CallControl(QueuePair& queue_pair, Request& request, Work work, Then then) {
  if (!queue_pair.BeginControlCall(request)) return;
  CallControlAsync(
      queue_pair, [work](ControlPlane& control, const auto& answer) { answer(work(control)); },
      [&queue_pair, then](const auto& result) {
        if (queue_pair.closed()) return;
        then(result);
        queue_pair.EndControlCall();
      });
}

}  // namespace sma::storage_target::nvmf
