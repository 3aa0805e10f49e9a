// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

namespace sma::jsonrpc {

/// The output queue of a non-blocking stream socket. Keeps the pieces in which the bytes were
/// pushed. Not thread-safe.
class SendQueue {
 public:
  using PieceId = uint64_t;  // never 0

  /// Appends `bytes`, which must not be empty.
  PieceId Push(std::string bytes);

  /// Sends as much as the socket accepts without blocking. Returns 0, or the errno value of a
  /// broken connection.
  int Flush(int socket);

  /// Returns how many bytes of the piece have been sent; SIZE_MAX if all of them have. `id` was
  /// returned by Push and has not been removed or cleared.
  size_t SentBytes(PieceId id) const;

  /// Removes a piece if none of it has been sent yet; otherwise changes nothing and returns false.
  bool Remove(PieceId id);

  void Clear();

  bool empty() const { return pieces_.empty(); }
  size_t size_bytes() const { return size_bytes_; }

 private:
  struct Piece {
    PieceId id;
    std::string bytes;
  };
  void Drop(size_t count);

  std::deque<Piece> pieces_;  // in ascending order of ids
  size_t front_sent_ = 0;     // bytes of the first piece that have been sent
  size_t size_bytes_ = 0;
  PieceId next_id_ = 1;
};

}  // namespace sma::jsonrpc
