// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace sma::storage_target::initiator {

/// Bytes that are sent to a socket with one system call: the headers are stored here, and the data
/// are referenced.
class SendBatch {
 public:
  static constexpr size_t kHeaderBytes = 32 * 1024;
  static constexpr size_t kMaxIovs = 512;

  /// Returns true if everything is sent. A new batch may be started only then.
  bool empty() const { return begin_ == end_; }
  size_t header_room() const { return kHeaderBytes - header_bytes_; }
  size_t iov_room() const { return kMaxIovs - end_; }

  /// Appends `size_bytes` zero bytes, into which the caller writes a header. The caller must check
  /// header_room() and iov_room() first.
  std::byte* AppendHeader(size_t size_bytes);
  /// Appends a reference to data. The data must remain valid until empty() returns true. The caller
  /// must check iov_room() first.
  void AppendData(const void* base, size_t size_bytes);

  /// Returns 0 if everything was sent, -EAGAIN if the socket accepts no more bytes at present, or
  /// another negative errno if it has failed.
  int Send(int fd);

  void Clear() { header_bytes_ = begin_ = end_ = 0; }

 private:
  void Consume(size_t size_bytes);

  size_t header_bytes_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
  std::array<iovec, kMaxIovs> iovs_;
  std::array<std::byte, kHeaderBytes> headers_;
};

}  // namespace sma::storage_target::initiator
