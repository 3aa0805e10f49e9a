// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sma::record {

/// The folder of the agent's persistent files, locked for the lifetime of this object: only one
/// agent at a time uses it. The kernel releases the lock when the process ends.
class StateFolder {
 public:
  /// Locks the folder `path`, and creates it (and missing parents) with mode 0700 if it does not
  /// exist. A folder that other users can read is changed to 0700 if it is empty or holds a record.
  ///
  /// Returns FAILED_PRECONDITION if another agent uses the folder; if the folder, a symbolic link
  /// to it, or a file of the record belongs to another user; if others may write to the folder, or
  /// it has the sticky bit, as shared folders do; if others may read it and it holds other files;
  /// if a file of the record is not a regular file or has a second hard link; or if the folder
  /// cannot be written.
  static absl::StatusOr<StateFolder> Open(const std::string& path);

  /// Returns the path of the folder with symbolic links resolved.
  const std::string& path() const { return path_; }

  /// Opens the file `name` for reading and writing, and creates it with mode 0600 if it does not
  /// exist. Does not follow symbolic links. Returns FAILED_PRECONDITION as Open() does.
  absl::StatusOr<base::UniqueFd> OpenFile(const std::string& name) const;

 private:
  StateFolder(std::string path, base::UniqueFd folder)
      : path_(std::move(path)), folder_(std::move(folder)) {}

  std::string path_;
  base::UniqueFd folder_;
  base::UniqueFd lock_;
};

}  // namespace sma::record
