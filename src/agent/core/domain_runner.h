#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace sma::core {

/// A piece of work, and the neighbour that it may have to wait for: a virtual machine, say. Empty:
/// none.
struct DomainTask {
  std::string domain;
  std::function<absl::Status()> run;
};

/// Runs all `tasks` in up to `parallelism` threads and returns when they have ended: those without
/// a neighbour first, and at most a few at a time of one neighbour. When one of a neighbour's fails
/// and took long the neighbour is taken to be down: its tasks that have not begun fail with the
/// same error, and do not run. Returns the results in the order of the tasks.
std::vector<absl::Status> RunByDomain(std::vector<DomainTask> tasks, int parallelism);

}  // namespace sma::core
