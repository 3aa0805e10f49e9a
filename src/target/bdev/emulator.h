#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>

#include "target/bdev/io.h"
#include "target/bdev/io_queue.h"

namespace sma::target::bdev {

class Channel;

/// Does for one channel what its module cannot: write zeroes by writes, compare by reads. One I/O
/// after the other, in pieces; made when the first comes, so that it allocates nothing per I/O.
class Emulator {
 public:
  explicit Emulator(Channel& channel);

  /// `io` is of type kWriteZeroes or kCompare; answered through Channel::Finish.
  void Run(Io& io);
  /// As Channel::Abort, for an I/O that Run was given.
  bool Abort(Io& io);
  /// The module has done the present piece.
  void OnChildDone(IoStatus status);

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };

  bool TakeNext();
  void SubmitPieces();
  void SubmitPiece();
  bool HandlePiece();
  bool PieceMatches() const;

  Channel& channel_;
  const uint64_t piece_blocks_;  // the largest piece
  std::unique_ptr<std::byte, Free> buffer_;
  IoQueue waiting_;
  Io* current_ = nullptr;
  uint64_t done_blocks_ = 0;  // of current_
  bool aborted_ = false;      // current_: no further piece
  bool in_piece_ = false;     // tells a module that completes at once from one that does later
  bool piece_done_ = false;
  IoStatus piece_status_ = IoStatus::kOk;
  iovec iov_{};
  Io child_;
};

}  // namespace sma::target::bdev
