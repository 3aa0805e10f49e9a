#pragma once

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "target/bdev/io.h"

namespace sma::target::bdev_iscsi {

/// How a SCSI command ended.
struct CommandResult {
  enum class Kind : uint8_t {
    kStatus,    // the unit answered
    kTimedOut,  // it did not, in time; whether it did the work is not known
    kAborted,   // by Session::Abort or AbortAll
  };
  Kind kind = Kind::kStatus;
  int status = SCSI_STATUS_GOOD;  // SAM-5 §5.3.1
  uint8_t sense_key = 0;          // with SCSI_STATUS_CHECK_CONDITION
  uint16_t asc_ascq = 0;
  uint32_t data_bytes = 0;  // that moved

  bool good() const { return kind == Kind::kStatus && status == SCSI_STATUS_GOOD; }
};

/// One SCSI command. The submitter embeds it, fills the first part and leaves it alone until
/// `done`, which runs in the session's reactor, never from within Session::Submit.
struct Command {
  enum class Direction : uint8_t { kNone, kIn, kOut };

  std::array<uint8_t, 16> cdb{};
  uint8_t cdb_bytes = 16;
  Direction direction = Direction::kNone;
  uint32_t data_bytes = 0;
  std::vector<scsi_iovec> iovs{};  // exactly data_bytes in all
  void (*done)(Command& self, const CommandResult& result) = nullptr;

  // The session's and the connection's.
  CommandResult result{};
  uint64_t deadline_ns = 0;
  uint32_t retries = 0;
  bool aborted = false;       // by Session::Abort: not sent again
  scsi_task* task = nullptr;  // while it is with a connection
  void* connection = nullptr;
  Command* next = nullptr;
  Command* previous = nullptr;

  void SetData(Direction to, void* data, uint32_t size_bytes);
};

/// Commands in a row; owns none.
class CommandList {
 public:
  CommandList() = default;
  CommandList(CommandList&& other) noexcept
      : head_(std::exchange(other.head_, nullptr)),
        tail_(std::exchange(other.tail_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  CommandList(const CommandList&) = delete;
  CommandList& operator=(const CommandList&) = delete;
  CommandList& operator=(CommandList&&) = delete;

  bool empty() const { return head_ == nullptr; }
  size_t size() const { return size_; }
  Command* front() const { return head_; }
  void PushBack(Command& command);
  void PushFront(Command& command);
  void Remove(Command& command);
  Command& PopFront();
  /// All of `other`, before those that are here.
  void Prepend(CommandList other);

 private:
  Command* head_ = nullptr;
  Command* tail_ = nullptr;
  size_t size_ = 0;
};

// The commands (SPC-4, SBC-3), without their data.
void MakeInquiry(Command& command, bool vital, uint8_t page, uint16_t size_bytes);
/// MODE SENSE (6) for all pages.
void MakeModeSense(Command& command, uint8_t size_bytes);
void MakeReadCapacity(Command& command, uint8_t size_bytes);
/// READ (16), WRITE (16), WRITE SAME (16), SYNCHRONIZE CACHE (16), UNMAP.
void MakeBlockCommand(Command& command, bdev::IoType type, uint64_t lba, uint32_t block_count);

/// What becomes of a command that ended so.
enum class Verdict : uint8_t {
  kFinal,
  kAgain,  // it was not begun: at once once more
  kLater,  // the unit is busy or not ready: after a moment
};
Verdict Judge(const CommandResult& result);
bool IsUnitAttention(const CommandResult& result);
/// What an I/O's submitter is told.
bdev::IoStatus ToIoStatus(bdev::IoType type, const CommandResult& result);

/// CAPACITY DATA HAS CHANGED (SPC-4 annex F).
inline constexpr uint16_t kCapacityChanged = 0x2a09;

}  // namespace sma::target::bdev_iscsi
