#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sma::record {

/// The agent's folder for what has to outlive it, locked for as long as this object lives: one
/// agent at a time uses it. The lock goes with the process, however that ends.
class StateFolder {
 public:
  /// Creates `path` (and folders above it) with mode 0700 if it is missing, and locks it. A folder
  /// that others may read is made 0700 if it is empty or holds a record. Returns
  /// FAILED_PRECONDITION if another agent has it; if it, a symbolic link to it, or a file of the
  /// record belongs to another user; if others may write to it, or it is sticky, as shared folders
  /// are; if others may read it and it holds other files; if a file of the record is not a regular
  /// file with one name; or if it cannot be written.
  static absl::StatusOr<StateFolder> Open(const std::string& path);

  /// Without symbolic links.
  const std::string& path() const { return path_; }

  /// Opens the file `name` for reading and writing, and creates it with mode 0600 if it is missing.
  /// Symbolic links are not followed. Returns FAILED_PRECONDITION as Open() does.
  absl::StatusOr<base::UniqueFd> OpenFile(const std::string& name) const;

 private:
  StateFolder(std::string path, base::UniqueFd folder)
      : path_(std::move(path)), folder_(std::move(folder)) {}

  std::string path_;
  base::UniqueFd folder_;
  base::UniqueFd lock_;
};

}  // namespace sma::record
