// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sma::jsonrpc {

/// A listening Unix stream socket and its file. Not thread-safe.
class UnixListener {
 public:
  /// Same contract as Server::Listen.
  static absl::StatusOr<std::unique_ptr<UnixListener>> Open(const std::string& path, mode_t mode);

  /// Stops listening and removes the socket file, unless it has been replaced by another one.
  ~UnixListener();
  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;

  /// Returns a descriptor that is readable when a peer is waiting to be accepted.
  int fd() const { return socket_.get(); }

  enum class Outcome { kAccepted, kNobody, kNoDescriptors, kFailed };

  /// Sets `peer` to the non-blocking socket of the next waiting peer. Returns kNoDescriptors if the
  /// process has no descriptors left; the peer then continues to wait.
  Outcome Accept(base::UniqueFd& peer);

  /// Accepts and closes one waiting peer although the process has no descriptors left. Returns
  /// false if that was not possible.
  bool DropPeer();

 private:
  explicit UnixListener(std::string path) : path_(std::move(path)) {}
  absl::Status Lock();
  absl::Status RemoveStale();
  absl::Status Bind(mode_t mode);
  bool HasPeer() const;

  const std::string path_;
  base::UniqueFd lock_;
  base::UniqueFd socket_;
  base::UniqueFd
      reserve_;       // closed for a moment to accept and drop a peer if no descriptors are left
  dev_t device_ = 0;  // of the socket file
  ino_t inode_ = 0;
};

}  // namespace sma::jsonrpc
