// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/intrusive_list.h"
#include "storage_target/bdev/io.h"

namespace sma::storage_target::bdev_iscsi {

/// The result of a SCSI command.
struct CommandResult {
  enum class Kind : uint8_t {
    kStatus,    // the unit sent a status
    kTimedOut,  // no status in time; the unit may have executed the command
    kAborted,   // by Session::Abort or AbortAll
    kReplaced,  // another logical unit has taken the place of the unit
  };
  Kind kind = Kind::kStatus;
  int status = SCSI_STATUS_GOOD;  // SAM-5 §5.3.1
  uint8_t sense_key = 0;          // with SCSI_STATUS_CHECK_CONDITION
  uint16_t asc_ascq = 0;
  uint32_t data_bytes = 0;  // transferred bytes

  bool good() const { return kind == Kind::kStatus && status == SCSI_STATUS_GOOD; }
};

/// One SCSI command. The submitter embeds it, sets the first group of members, and does not access
/// it until `done`, which runs on the session's reactor and never within Session::Submit.
struct Command : base::ListLink<Command> {
  enum class Direction : uint8_t { kNone, kIn, kOut };

  std::array<uint8_t, 16> cdb{};
  uint8_t cdb_bytes = 16;
  Direction direction = Direction::kNone;
  uint32_t data_bytes = 0;
  std::vector<scsi_iovec> iovs{};  // data_bytes in total
  void (*done)(Command& self, const CommandResult& result) = nullptr;

  // Used by the session and the connection.
  CommandResult result{};
  uint64_t deadline_ns = 0;
  uint32_t retries = 0;
  bool aborted = false;       // by Session::Abort: is not sent again
  scsi_task* task = nullptr;  // set while a connection has it
  void* connection = nullptr;

  void SetData(Direction to, void* data, uint32_t size_bytes);
};

/// A list of commands with a count of its elements.
class CommandList {
 public:
  CommandList() = default;
  CommandList(CommandList&& other) noexcept { Prepend(std::move(other)); }
  CommandList(const CommandList&) = delete;
  CommandList& operator=(const CommandList&) = delete;
  CommandList& operator=(CommandList&&) = delete;

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  /// Returns the first command; null if the list is empty.
  Command* front() const { return commands_.first(); }
  /// Returns the command after `command`; null if it is the last.
  Command* After(const Command& command) const { return commands_.After(command); }
  void PushBack(Command& command) {
    commands_.Append(command);
    ++size_;
  }
  void PushFront(Command& command) {
    commands_.Prepend(command);
    ++size_;
  }
  void Remove(Command& command) {
    commands_.Remove(command);
    --size_;
  }
  Command& PopFront() {
    --size_;
    return commands_.TakeFirst();
  }
  /// Moves all commands of `other` to the front.
  void Prepend(CommandList&& other) {
    commands_.TakeToFront(other.commands_);
    size_ += std::exchange(other.size_, 0);
  }

 private:
  base::IntrusiveList<Command> commands_;
  size_t size_ = 0;
};

// These functions set the CDB (SPC-4, SBC-3), without the data.
void MakeInquiry(Command& command, bool vital, uint8_t page, uint16_t size_bytes);
/// Sets the CDB of MODE SENSE (6) for all pages.
void MakeModeSense(Command& command, uint8_t size_bytes);
void MakeReadCapacity(Command& command, uint8_t size_bytes);
/// Sets the CDB of READ (16), WRITE (16), WRITE SAME (16), SYNCHRONIZE CACHE (16) or UNMAP.
void MakeBlockCommand(Command& command, bdev::IoType type, uint64_t lba, uint32_t block_count);

/// Sets the CDB of SYNCHRONIZE CACHE (10) for the whole unit.
void MakeShortFlush(Command& command);

/// Returns true if the unit does not support the command.
bool IsUnknownCommand(const CommandResult& result);
/// Whether and when a command is sent again.
enum class RetryAction : uint8_t {
  kFinal,
  kAtOnce,      // at once: the unit did not start it
  kAfterPause,  // after a pause: the unit is busy or not ready
};
RetryAction RetryActionFor(const CommandResult& result);
bool IsUnitAttention(const CommandResult& result);
/// Returns true if the result says that the unit is not there, or was reset or changed, so that it
/// may be another unit: LOGICAL UNIT NOT SUPPORTED, and all unit attentions (SPC-4 annex F) except
/// PARAMETERS CHANGED.
bool MayBeAnotherUnit(const CommandResult& result);
/// Converts a result to the status of the I/O.
bdev::IoStatus ToIoStatus(bdev::IoType type, const CommandResult& result);

/// The additional sense code CAPACITY DATA HAS CHANGED (SPC-4 annex F).
inline constexpr uint16_t kCapacityChanged = 0x2a09;
/// The additional sense code LOGICAL UNIT NOT SUPPORTED.
inline constexpr uint16_t kUnitNotSupported = 0x2500;

}  // namespace sma::storage_target::bdev_iscsi
