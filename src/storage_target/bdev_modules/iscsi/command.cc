// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/command.h"

namespace sma::storage_target::bdev_iscsi {
namespace {

using bdev::IoStatus;
using bdev::IoType;

constexpr uint8_t kInvalidOpcode = 0x20;  // an additional sense code

template <typename T>
void Put(Command& command, size_t offset, T value) {
  for (size_t i = sizeof(T); i-- > 0; value = static_cast<T>(value >> 8)) {
    command.cdb[offset + i] = static_cast<uint8_t>(value);
  }
}

void Begin(Command& command, uint8_t opcode, uint8_t cdb_bytes) {
  command.cdb.fill(0);
  command.cdb[0] = opcode;
  command.cdb_bytes = cdb_bytes;
  command.direction = Command::Direction::kNone;
  command.data_bytes = 0;
}

uint8_t OpcodeOf(IoType type) {
  switch (type) {
    case IoType::kRead:
      return SCSI_OPCODE_READ16;
    case IoType::kWrite:
      return SCSI_OPCODE_WRITE16;
    case IoType::kWriteZeroes:
      return SCSI_OPCODE_WRITE_SAME16;
    case IoType::kUnmap:
      return SCSI_OPCODE_UNMAP;
    case IoType::kFlush:
    case IoType::kCompare:
      break;
  }
  return SCSI_OPCODE_SYNCHRONIZECACHE16;
}

uint8_t Asc(const CommandResult& result) { return static_cast<uint8_t>(result.asc_ascq >> 8); }

IoStatus FromSense(IoType type, const CommandResult& result) {
  constexpr uint8_t kLbaOutOfRange = 0x21;
  constexpr uint8_t kWriteProtected = 0x27;
  constexpr uint16_t kSpaceAllocationFailed = 0x2707;
  switch (result.sense_key) {
    case SCSI_SENSE_RECOVERED_ERROR:
      return IoStatus::kOk;
    case SCSI_SENSE_ILLEGAL_REQUEST:
      // A unit that does not support the command has no cache.
      if (Asc(result) == kInvalidOpcode && type == IoType::kFlush) return IoStatus::kOk;
      if (Asc(result) == kInvalidOpcode) return IoStatus::kUnsupported;
      return Asc(result) == kLbaOutOfRange ? IoStatus::kOutOfRange : IoStatus::kFailed;
    case SCSI_SENSE_DATA_PROTECTION:
      if (result.asc_ascq == kSpaceAllocationFailed) return IoStatus::kNoSpace;
      return Asc(result) == kWriteProtected ? IoStatus::kReadOnly : IoStatus::kFailed;
    default:
      return IoStatus::kFailed;
  }
}

}  // namespace

void Command::SetData(Direction to, void* data, uint32_t size_bytes) {
  direction = to;
  data_bytes = size_bytes;
  iovs.assign(1, {.iov_base = data, .iov_len = size_bytes});
}

void MakeInquiry(Command& command, bool vital, uint8_t page, uint16_t size_bytes) {
  Begin(command, SCSI_OPCODE_INQUIRY, 6);
  command.cdb[1] = vital ? 1 : 0;
  command.cdb[2] = page;
  Put(command, 3, size_bytes);
}

void MakeModeSense(Command& command, uint8_t size_bytes) {
  constexpr uint8_t kAllPages = 0x3f;
  Begin(command, SCSI_OPCODE_MODESENSE6, 6);
  command.cdb[2] = kAllPages;
  command.cdb[4] = size_bytes;
}

void MakeReadCapacity(Command& command, uint8_t size_bytes) {
  constexpr uint8_t kReadCapacity16 = 0x10;
  Begin(command, SCSI_OPCODE_SERVICE_ACTION_IN, 16);
  command.cdb[1] = kReadCapacity16;
  command.cdb[13] = size_bytes;
}

void MakeBlockCommand(Command& command, IoType type, uint64_t lba, uint32_t block_count) {
  constexpr uint16_t kUnmapListBytes = 24;
  if (type == IoType::kUnmap) {
    Begin(command, SCSI_OPCODE_UNMAP, 10);
    Put(command, 7, kUnmapListBytes);
    return;
  }
  Begin(command, OpcodeOf(type), 16);
  Put(command, 2, lba);
  Put(command, 10, block_count);
}

void MakeShortFlush(Command& command) { Begin(command, SCSI_OPCODE_SYNCHRONIZECACHE10, 10); }

bool IsUnknownCommand(const CommandResult& result) {
  return result.kind == CommandResult::Kind::kStatus &&
         result.status == SCSI_STATUS_CHECK_CONDITION &&
         result.sense_key == SCSI_SENSE_ILLEGAL_REQUEST && Asc(result) == kInvalidOpcode;
}

bool IsUnitAttention(const CommandResult& result) {
  return result.kind == CommandResult::Kind::kStatus &&
         result.status == SCSI_STATUS_CHECK_CONDITION &&
         result.sense_key == SCSI_SENSE_UNIT_ATTENTION;
}

bool MayBeAnotherUnit(const CommandResult& result) {
  constexpr uint8_t kParametersChanged = 0x2a;  // mode parameters, capacity, reservations
  if (IsUnitAttention(result)) return Asc(result) != kParametersChanged;
  return result.kind == CommandResult::Kind::kStatus &&
         result.status == SCSI_STATUS_CHECK_CONDITION &&
         result.sense_key == SCSI_SENSE_ILLEGAL_REQUEST && result.asc_ascq == kUnitNotSupported;
}

RetryAction RetryActionFor(const CommandResult& result) {
  if (result.kind != CommandResult::Kind::kStatus) return RetryAction::kFinal;
  switch (result.status) {
    case SCSI_STATUS_BUSY:
    case SCSI_STATUS_TASK_SET_FULL:
      return RetryAction::kAfterPause;
    case SCSI_STATUS_TASK_ABORTED:
      return RetryAction::kAtOnce;
    case SCSI_STATUS_CHECK_CONDITION:
      break;
    default:
      return RetryAction::kFinal;
  }
  switch (result.sense_key) {
    case SCSI_SENSE_UNIT_ATTENTION:
    case SCSI_SENSE_COMMAND_ABORTED:
      return RetryAction::kAtOnce;
    case SCSI_SENSE_NOT_READY:
      return RetryAction::kAfterPause;
    default:
      return RetryAction::kFinal;
  }
}

IoStatus ToIoStatus(IoType type, const CommandResult& result) {
  switch (result.kind) {
    case CommandResult::Kind::kAborted:
      return IoStatus::kAborted;
    case CommandResult::Kind::kTimedOut:
      return IoStatus::kFailed;
    case CommandResult::Kind::kReplaced:
      return IoStatus::kGone;
    case CommandResult::Kind::kStatus:
      break;
  }
  if (result.status == SCSI_STATUS_GOOD) return IoStatus::kOk;
  if (result.status == SCSI_STATUS_CHECK_CONDITION) return FromSense(type, result);
  return IoStatus::kFailed;
}

}  // namespace sma::storage_target::bdev_iscsi
