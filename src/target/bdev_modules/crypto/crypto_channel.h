#pragma once

#include <memory>

#include "target/bdev/buffer_pool.h"
#include "target/bdev/channel.h"
#include "target/bdev/io_queue.h"
#include "target/bdev/pool.h"
#include "target/bdev_modules/crypto/data_cipher.h"

namespace sma::target::bdev_modules {

/// Reads are decrypted where the submitter wants them. Writes are encrypted to a buffer of the
/// channel's, in pieces, since the submitter's data must stay as they are.
class CryptoChannel : public bdev::Channel {
 public:
  CryptoChannel(bdev::Bdev& bdev, Reactor& reactor, std::unique_ptr<bdev::Channel> base,
                const CryptoKey& key);

 private:
  struct Child : bdev::Io {
    bdev::Io* parent = nullptr;  // which has the address of its child in its scratch
    uint64_t done_blocks = 0;
    // Of a write.
    bdev::IoStatus status = bdev::IoStatus::kOk;  // of the last piece that is done
    bool aborted = false;                         // no further piece
    bool submitting = false;  // tells a base that completes at once from one that does later
    bool piece_done = false;
    std::byte* buffer = nullptr;
    iovec iov{};
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

  const std::unique_ptr<bdev::Channel> base_;
  DataCipher cipher_;
  bdev::Pool<Child> children_;
  bdev::BufferPool buffers_;
  bdev::IoQueue waiting_;  // writes without a buffer yet
  bool starting_waiting_ = false;
};

}  // namespace sma::target::bdev_modules
