#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sma::jsonrpc {

/// A listening Unix stream socket and its file. Not synchronised.
class UnixListener {
 public:
  /// As Server::Listen says.
  static absl::StatusOr<std::unique_ptr<UnixListener>> Open(const std::string& path, mode_t mode);

  /// Stops listening and removes the socket file, unless another one is there by now.
  ~UnixListener();
  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;

  /// Readable when a peer waits to be accepted.
  int fd() const { return socket_.get(); }

  enum class Outcome { kAccepted, kNobody, kNoDescriptors, kFailed };

  /// Sets `peer` to the next waiting peer's socket, non-blocking. kNoDescriptors: the process has
  /// none left, and the peer goes on waiting.
  Outcome Accept(base::UniqueFd& peer);

  /// Accepts and closes one waiting peer although the process has no descriptors left. False: that
  /// was not possible either.
  bool DropPeer();

 private:
  explicit UnixListener(std::string path) : path_(std::move(path)) {}
  absl::Status Lock();
  absl::Status RemoveStale();
  absl::Status Bind(mode_t mode);

  const std::string path_;
  base::UniqueFd lock_;
  base::UniqueFd socket_;
  base::UniqueFd
      reserve_;  // given up for a moment to accept and drop a peer when no descriptors are left
  dev_t device_ = 0;  // of the socket file
  ino_t inode_ = 0;
};

}  // namespace sma::jsonrpc
