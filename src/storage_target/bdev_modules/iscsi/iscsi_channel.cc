// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/iscsi_channel.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#include "base/log.h"
#include "storage_target/bdev/bdev.h"
#include "storage_target/bdev/zeroes.h"
#include "storage_target/bdev_modules/iscsi/unwritten_marks.h"

namespace sma::storage_target::bdev_iscsi {
namespace {

using bdev::IoStatus;
using bdev::IoType;

constexpr uint64_t kMaxTransferBytes = 1 << 20;
constexpr uint64_t kMaxBlockCount = UINT32_MAX;  // of one command

bool MovesData(IoType type) { return type == IoType::kRead || type == IoType::kWrite; }

template <typename T>
void PutBigEndian(std::span<uint8_t> bytes, size_t offset, T value) {
  for (size_t i = sizeof(T); i-- > 0; value = static_cast<T>(value >> 8)) {
    bytes[offset + i] = static_cast<uint8_t>(value);
  }
}

// If a mark is still found, at any position, after this many repeats, it is not a coincidence.
constexpr uint32_t kMaxReadRepeats = 2;

}  // namespace

void IoCommand::Make() {
  uint64_t lba = io->lba + done_blocks;
  block_count = static_cast<uint32_t>(std::min(io->block_count - done_blocks, MaxBlocks()));
  // A flush covers the whole cache: 0 blocks mean all blocks.
  bool is_flush = io->type == IoType::kFlush;
  if (is_flush && channel->uses_short_flush()) {
    MakeShortFlush(*this);
  } else {
    MakeBlockCommand(*this, io->type, is_flush ? 0 : lba, is_flush ? 0 : block_count);
  }
  uint32_t block_size = channel->bdev().block_size();
  if (MovesData(io->type)) {
    direction = io->type == IoType::kRead ? Direction::kIn : Direction::kOut;
    data_bytes = block_count * block_size;
    SetIovs(done_blocks * block_size);
  } else if (io->type == IoType::kWriteZeroes) {
    SetData(Direction::kOut, bdev::Zeroes().data(), block_size);
  } else if (io->type == IoType::kUnmap) {
    MakeUnmapList(lba);
    SetData(Direction::kOut, unmap_list.data(), unmap_list.size());
  }
}

uint64_t IoCommand::MaxBlocks() const {
  const BlockLimits& limits = channel->lun().limits;
  auto at_most = [](uint64_t limit, uint64_t blocks) {
    return limit == 0 ? blocks : std::min(limit, blocks);
  };
  switch (io->type) {
    case IoType::kRead:
    case IoType::kWrite:
      return at_most(limits.max_transfer, kMaxTransferBytes / channel->bdev().block_size());
    case IoType::kUnmap:
      return at_most(limits.max_unmap, kMaxBlockCount);
    case IoType::kWriteZeroes:
      return at_most(limits.max_write_same, kMaxBlockCount);
    case IoType::kFlush:
    case IoType::kCompare:
      break;
  }
  return io->block_count;
}

// SBC-3 §5.28: two lengths, then one descriptor.
void IoCommand::MakeUnmapList(uint64_t lba) {
  unmap_list.fill(0);
  PutBigEndian<uint16_t>(unmap_list, 0, 22);
  PutBigEndian<uint16_t>(unmap_list, 2, 16);
  PutBigEndian<uint64_t>(unmap_list, 8, lba);
  PutBigEndian<uint32_t>(unmap_list, 16, block_count);
}

void IoCommand::SetIovs(uint64_t offset_bytes) {
  iovs.clear();
  uint64_t left = data_bytes;
  for (uint32_t i = 0; i < io->iov_count && left != 0; ++i) {
    const iovec& from = io->iovs[i];
    if (offset_bytes >= from.iov_len) {
      offset_bytes -= from.iov_len;
      continue;
    }
    uint64_t length = std::min<uint64_t>(from.iov_len - offset_bytes, left);
    iovs.push_back({static_cast<std::byte*>(from.iov_base) + offset_bytes, length});
    left -= length;
    offset_bytes = 0;
  }
}

IoCommand::Data IoCommand::CheckData() {
  const std::optional<uint64_t> unwritten = FindMark(iovs, mark);
  if (!unwritten) return Data::kComplete;
  const bool again = std::exchange(unwritten_at, unwritten) == unwritten;
  return again || ++read_repeats > kMaxReadRepeats ? Data::kMissing : Data::kUnclear;
}

IscsiChannel::IscsiChannel(IscsiBdev& bdev, Reactor& reactor)
    : Channel(bdev, reactor),
      bdev_(bdev),
      session_(Session::Start(reactor, bdev.session_options(), *this)) {
  bdev_.AddSession(reactor, session_);
}

IscsiChannel::~IscsiChannel() {
  bdev_.RemoveSession(*session_);
  session_->Close();
}

void IscsiChannel::DoSubmit(bdev::Io& io) {
  IoCommand& command = commands_.Take();
  command.channel = this;
  command.io = &io;
  command.done_blocks = 0;
  command.BeginPart();
  command.done = OnDone;
  auto* place = new (io.scratch.data()) IoCommand*(&command);
  static_cast<void>(place);
  Send(command);
}

void IscsiChannel::Send(IoCommand& command) {
  command.Make();
  if (command.io->type == IoType::kRead) {
    command.mark = static_cast<uint32_t>(random_());
    PlantMarks(command.iovs, command.mark);
  }
  session_->Submit(command);
}

bool IscsiChannel::DoAbort(bdev::Io& io) {
  return session_->Abort(**std::launder(reinterpret_cast<IoCommand**>(io.scratch.data())));
}

void IscsiChannel::OnDone(Command& done, const CommandResult& result) {
  auto& command = static_cast<IoCommand&>(done);
  IscsiChannel& self = *command.channel;
  if (command.io->type == IoType::kFlush && IsUnknownCommand(result) &&
      command.cdb[0] == SCSI_OPCODE_SYNCHRONIZECACHE16) {
    if (command.aborted) return self.Finish(command, IoStatus::kAborted);
    self.uses_short_flush_ = true;
    return self.Send(command);
  }
  IoStatus status = ToIoStatus(command.io->type, result);
  if (status != IoStatus::kOk) return self.Finish(command, status);
  // The status is success but the data are incomplete, so they are not trusted.
  if (result.data_bytes != command.data_bytes) return self.Finish(command, IoStatus::kFailed);
  const auto data =
      command.io->type == IoType::kRead ? command.CheckData() : IoCommand::Data::kComplete;
  if (data == IoCommand::Data::kMissing) {
    spdlog::error("{}: the target completed a read with status GOOD without all of its data",
                  self.bdev_.name());
    return self.Finish(command, IoStatus::kFailed);
  }
  if (data == IoCommand::Data::kComplete) {
    command.done_blocks += command.block_count;
    command.BeginPart();
  }
  if (command.done_blocks >= command.io->block_count) return self.Finish(command, IoStatus::kOk);
  if (command.aborted) return self.Finish(command, IoStatus::kAborted);
  self.Send(command);
}

void IscsiChannel::Finish(IoCommand& command, IoStatus status) {
  bdev::Io& io = *command.io;
  commands_.Give(command);
  Complete(io, status);
}

void IscsiChannel::OnUnitAttention(uint16_t asc_ascq) {
  if (asc_ascq == kCapacityChanged) bdev_.watch().ReadSoon();
}

}  // namespace sma::storage_target::bdev_iscsi
