#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace sma::target::initiator {

/// Bytes that go to a socket with one system call: headers, which are kept here, and data, which
/// stay where they are.
class SendBatch {
 public:
  static constexpr size_t kHeaderBytes = 32 * 1024;
  static constexpr size_t kMaxIovs = 512;

  /// True when nothing is left to send; only then may the first bytes be appended.
  bool empty() const { return begin_ == end_; }
  size_t header_room() const { return kHeaderBytes - header_bytes_; }
  size_t iov_room() const { return kMaxIovs - end_; }

  /// `size_bytes` of zeroes for the caller to fill in. The caller has looked at header_room() and
  /// iov_room().
  std::byte* AppendHeader(size_t size_bytes);
  /// The bytes stay in use until empty(). The caller has looked at iov_room().
  void AppendData(const void* base, size_t size_bytes);

  /// Sends: 0 when everything is gone, -EAGAIN when the socket takes no more now, another negative
  /// errno when it is broken.
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

}  // namespace sma::target::initiator
