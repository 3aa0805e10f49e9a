// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>

#include "storage_target/bdev/buffer_pool.h"
#include "storage_target/bdev/channel.h"
#include "storage_target/bdev/io_queue.h"
#include "storage_target/bdev/pool.h"
#include "storage_target/bdev/turn.h"
#include "storage_target/bdev_modules/crypto/data_cipher.h"
#include "storage_target/reactor/work.h"

namespace sma::storage_target::bdev_crypto {

/// A channel of a crypto bdev. Reads are decrypted in the submitter's buffers. Writes are encrypted
/// in pieces into one of the channel's buffers, because the submitter's data must not be changed.
/// Work that exceeds a Turn is deferred to the next round of the loop.
class CryptoChannel : public bdev::Channel {
 public:
  CryptoChannel(bdev::Bdev& bdev, Reactor& reactor, std::unique_ptr<bdev::Channel> base,
                const CryptoKey& key);

 private:
  struct Child : bdev::Io {
    bdev::Io* parent = nullptr;  // its child is stored in its scratch
    uint64_t done_blocks = 0;
    bool resting = false;  // in resting_
    // Only for writes:
    bdev::IoStatus status = bdev::IoStatus::kOk;  // status of the last completed piece
    bool aborted = false;                         // no further piece is submitted
    bool submitting = false;  // the base may complete synchronously while this is set
    bool piece_done = false;
    std::byte* buffer = nullptr;
    iovec iov{};
  };

  struct NextTurn : Deferred {
    CryptoChannel* channel;
  };

  void DoSubmit(bdev::Io& io) override;
  bool DoAbort(bdev::Io& io) override;
  static Child*& ChildOf(bdev::Io& io);
  Child& TakeChild(bdev::Io& io);
  void HandDown(bdev::Io& io);
  void StartWrite(bdev::Io& io, std::byte* buffer);
  void WritePieces(Child& child);
  bool EncryptPiece(Child& child);
  static void OnChildDone(bdev::Io& io, bdev::IoStatus status);
  void OnPieceDone(Child& child, bdev::IoStatus status);
  bool HandlePiece(Child& child);
  void EndWrite(Child& child, bdev::IoStatus status);
  void StartWaiting();
  void DecryptParts(Child& child);
  void Rest(Child& child);
  void RunNextTurn();

  const std::unique_ptr<bdev::Channel> base_;
  DataCipher cipher_;
  bdev::Pool<Child> children_;
  bdev::BufferPool buffers_;
  bdev::IoQueue waiting_;  // writes that wait for a buffer
  bool starting_waiting_ = false;
  bdev::IoQueue resting_;  // reads and writes that wait for their turn, first in, first out
  bdev::Turn turn_;
  NextTurn next_turn_;
};

}  // namespace sma::storage_target::bdev_crypto
