// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <memory>

#include "storage_target/reactor/work.h"

namespace sma::storage_target {

/// Executes a reactor's file operations. Used only on the reactor's thread.
class FileBackend {
 public:
  virtual ~FileBackend() = default;

  virtual bool is_io_uring() const = 0;
  virtual void Submit(FileOp& op) = 0;
  /// Cancels `op`, which was submitted and has not completed. Returns true if nothing was executed:
  /// the caller owns `op` again and `done` is not called. Returns false if `done` will be called,
  /// with -ECANCELED if the kernel could still skip the operation.
  virtual bool Cancel(FileOp& op) = 0;
  /// Hands the submitted operations to the kernel. Called at the end of each round. Returns false
  /// if the kernel could not accept all of them yet.
  virtual bool Flush() = 0;
  /// Calls `done` for each completed operation and returns how many there were. Makes no system
  /// call if none has completed.
  virtual size_t Reap() = 0;
  /// Returns a descriptor that becomes readable (edge-triggered) when operations have completed.
  virtual int wait_fd() const = 0;
};

/// Returns null if the kernel refuses io_uring or lacks a required operation. Must be called on the
/// reactor's thread.
std::unique_ptr<FileBackend> MakeIoUringBackend();
/// Returns a backend with a few threads that make blocking calls. They start with the first
/// operation.
std::unique_ptr<FileBackend> MakeThreadPoolBackend();

}  // namespace sma::storage_target
