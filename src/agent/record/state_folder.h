#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sma::record {

/// The agent's folder for what has to outlive it, locked for as long as this object lives: one
/// agent at a time uses it. The lock goes with the process, however that ends.
class StateFolder {
 public:
  /// Makes `path` (and folders above it) if it is missing, readable by its owner alone, and locks
  /// it. FAILED_PRECONDITION: another agent has it, it is not ours, or it cannot be written.
  static absl::StatusOr<StateFolder> Open(const std::string& path);

  const std::string& path() const { return path_; }

 private:
  StateFolder(std::string path, base::UniqueFd lock)
      : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  base::UniqueFd lock_;
};

}  // namespace sma::record
