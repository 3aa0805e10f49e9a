// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>

#include "storage_target/bdev/channel.h"
#include "storage_target/bdev/pool.h"
#include "storage_target/bdev_modules/iscsi/command.h"
#include "storage_target/bdev_modules/iscsi/iscsi_bdev.h"
#include "storage_target/bdev_modules/iscsi/session.h"

namespace sma::storage_target::bdev_iscsi {

class IscsiChannel;

/// An I/O of a bdev, executed by one or more commands in sequence.
struct IoCommand : Command {
  IscsiChannel* channel = nullptr;
  bdev::Io* io = nullptr;
  uint64_t done_blocks = 0;
  uint32_t block_count = 0;              // of the current command
  std::array<uint8_t, 24> unmap_list{};  // parameter data of UNMAP

  // For reads; see unwritten_marks.h.
  uint32_t mark = 0;
  uint32_t read_repeats = 0;               // of the current command
  std::optional<uint64_t> unwritten_at{};  // where the mark was found last

  /// Builds the command for the next blocks.
  void Make();
  /// Resets the state of the current command, before the next one.
  void BeginPart() {
    read_repeats = 0;
    unwritten_at.reset();
  }
  /// Whether the data of a read are complete after the status GOOD. kUnclear means that a word is
  /// equal to the mark and the read has to be repeated with a different mark.
  enum class Data : uint8_t { kComplete, kUnclear, kMissing };
  Data CheckData();

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
  /// Returns true if the unit supports only the 10-byte form of SYNCHRONIZE CACHE, or neither form.
  bool uses_short_flush() const { return uses_short_flush_; }

 private:
  void DoSubmit(bdev::Io& io) override;
  bool DoAbort(bdev::Io& io) override;
  void DoReset() override { session_->AbortAll(); }
  void OnUnitAttention(uint16_t asc_ascq) override;
  void OnMayBeReplaced() override { bdev_.VerifySessions(); }
  static void OnDone(Command& command, const CommandResult& result);
  void Send(IoCommand& command);
  void Finish(IoCommand& command, bdev::IoStatus status);

  IscsiBdev& bdev_;
  bdev::Pool<IoCommand> commands_;
  std::mt19937_64 random_{std::random_device()()};
  bool uses_short_flush_ = false;
  const std::shared_ptr<Session> session_;
};

}  // namespace sma::storage_target::bdev_iscsi
