#pragma once

#include <memory>

#include "target/bdev/buffer_pool.h"
#include "target/bdev/channel.h"
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
    bdev::Io* parent = nullptr;
    uint64_t done_blocks = 0;  // of a write
    std::byte* buffer = nullptr;
    iovec iov{};
  };

  void DoSubmit(bdev::Io& io) override;
  void HandDown(bdev::Io& io);
  void StartWrite(bdev::Io& io);
  void WritePiece(Child& child);
  static void OnChildDone(bdev::Io& io, bdev::IoStatus status);
  void OnPieceDone(Child& child, bdev::IoStatus status);
  void EndWrite(Child& child, bdev::IoStatus status);

  const std::unique_ptr<bdev::Channel> base_;
  DataCipher cipher_;
  bdev::Pool<Child> children_;
  bdev::BufferPool buffers_;
  bdev::Io* waiting_head_ = nullptr;  // writes without a buffer yet
  bdev::Io** waiting_tail_ = &waiting_head_;
};

}  // namespace sma::target::bdev_modules
