// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>

#include "storage_target/bdev/io.h"
#include "storage_target/bdev/io_queue.h"
#include "storage_target/bdev/turn.h"
#include "storage_target/reactor/work.h"

namespace sma::storage_target::bdev {

class Channel;

/// Emulates, for one channel, operations that its module lacks: write zeroes with writes, and
/// compare with reads. Executes one I/O at a time, in pieces, and in one round of the loop no more
/// pieces than a Turn allows. Created with the first such I/O, so it does not allocate
/// for each I/O.
class Emulator {
 public:
  explicit Emulator(Channel& channel);

  /// Executes `io`, of type kWriteZeroes or kCompare, and completes it through Channel::Finish.
  void Run(Io& io);
  /// Like Channel::Abort, for an I/O that was passed to Run.
  bool Abort(Io& io);
  /// Called when the module has completed the current piece.
  void OnChildDone(IoStatus status);

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };

  struct NextTurn : Deferred {
    Emulator* emulator;
  };

  bool TakeNext();
  bool EndCurrent(IoStatus status);
  void RunNextTurn();
  void SubmitPieces();
  void SubmitPiece();
  bool HandlePiece();
  bool PieceMatches() const;

  Channel& channel_;
  const uint64_t piece_blocks_;  // size of the largest piece
  std::unique_ptr<std::byte, Free> buffer_;
  IoQueue waiting_;
  Io* current_ = nullptr;
  uint64_t done_blocks_ = 0;  // completed blocks of current_
  bool aborted_ = false;      // current_ gets no further piece
  bool in_piece_ = false;  // set while SubmitPieces submits: the piece completes synchronously then
  bool piece_done_ = false;
  IoStatus piece_status_ = IoStatus::kOk;
  iovec iov_{};
  Io child_;
  Turn turn_;
  NextTurn next_turn_;
};

}  // namespace sma::storage_target::bdev
