#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <random>

#include "target/bdev/channel.h"
#include "target/bdev/pool.h"
#include "target/bdev_modules/iscsi/command.h"
#include "target/bdev_modules/iscsi/iscsi_bdev.h"
#include "target/bdev_modules/iscsi/session.h"

namespace sma::target::bdev_iscsi {

class IscsiChannel;

/// A bdev's I/O on its way: one command after the other when one is not enough.
struct IoCommand : Command {
  IscsiChannel* channel = nullptr;
  bdev::Io* io = nullptr;
  uint64_t done_blocks = 0;
  uint32_t block_count = 0;              // of the present command
  std::array<uint8_t, 24> unmap_list{};  // UNMAP's data
  uint64_t mark = 0;                     // a read's, see PlantMarks

  /// Makes the command for the blocks that come next.
  void Make();
  /// A target may say GOOD and not have sent all data, and libiscsi does not count them. So the
  /// buffers of a read get a random mark here and there, which the data overwrite.
  void PlantMarks(uint64_t random);
  /// Whether a mark is left.
  bool HasMark() const;

 private:
  uint64_t MaxBlocks() const;
  void MakeUnmapList(uint64_t lba);
  void SetIovs(uint64_t offset_bytes);
};

class IscsiChannel : public bdev::Channel, private Session::Observer {
 public:
  IscsiChannel(IscsiBdev& bdev, Reactor& reactor);
  ~IscsiChannel() override;

  const LunInfo& lun() const { return bdev_.lun(); }

 private:
  void DoSubmit(bdev::Io& io) override;
  bool DoAbort(bdev::Io& io) override;
  void DoReset() override { session_->AbortAll(); }
  void OnUnitAttention(uint16_t asc_ascq) override;
  static void OnDone(Command& command, const CommandResult& result);
  void Send(IoCommand& command);
  void Finish(IoCommand& command, bdev::IoStatus status);

  IscsiBdev& bdev_;
  bdev::Pool<IoCommand> commands_;
  std::mt19937_64 random_{std::random_device()()};
  const std::shared_ptr<Session> session_;
};

}  // namespace sma::target::bdev_iscsi
