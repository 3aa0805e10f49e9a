// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace sma::core {

/// A task, and the neighbour that it may have to wait for, such as a VM; empty if there is none.
struct DomainTask {
  std::string domain;
  std::function<absl::Status()> run;
};

/// Runs all `tasks` in up to `parallelism` threads and returns when they have ended: tasks without
/// a neighbour first, and at most a few at a time for each neighbour. If a task of a neighbour
/// fails after a long time, the neighbour is considered down: its remaining tasks are not started
/// and fail with the same error. Returns the results in the order of the tasks.
std::vector<absl::Status> RunByDomain(std::vector<DomainTask> tasks, int parallelism);

}  // namespace sma::core
