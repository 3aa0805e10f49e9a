#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

namespace sma::jsonrpc {

/// Bytes on their way out of a non-blocking stream socket, in the pieces in which they were given.
/// Not synchronised.
class SendQueue {
 public:
  using PieceId = uint64_t;  // never 0

  /// `bytes` must not be empty.
  PieceId Push(std::string bytes);

  /// Gives the kernel as much as it takes now. 0, or the errno value of the broken connection.
  int Flush(int socket);

  /// How many bytes of the piece the kernel has taken; SIZE_MAX when all. `id`: from Push, and not
  /// removed or cleared.
  size_t SentBytes(PieceId id) const;

  /// Takes back a piece of which nothing has been sent. False, and nothing changes, when it is too
  /// late.
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

  std::deque<Piece> pieces_;  // by rising id
  size_t front_sent_ = 0;     // bytes of the first piece that are gone
  size_t size_bytes_ = 0;
  PieceId next_id_ = 1;
};

}  // namespace sma::jsonrpc
