// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/command.h"

#include <gtest/gtest.h>

#include <vector>

namespace sma::storage_target::bdev_iscsi {
namespace {

using bdev::IoStatus;
using bdev::IoType;

CommandResult CheckCondition(uint8_t sense_key, uint16_t asc_ascq) {
  return {.status = SCSI_STATUS_CHECK_CONDITION, .sense_key = sense_key, .asc_ascq = asc_ascq};
}

TEST(Command, EncodesBlocksBigEndian) {
  Command command;
  MakeBlockCommand(command, IoType::kRead, 0x0102030405060708, 0x090a0b0c);
  EXPECT_EQ(command.cdb, (std::array<uint8_t, 16>{0x88, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  MakeBlockCommand(command, IoType::kWrite, 1, 1);
  EXPECT_EQ(command.cdb[0], 0x8a);
  MakeBlockCommand(command, IoType::kUnmap, 1, 1);
  EXPECT_EQ(command.cdb_bytes, 10);
  EXPECT_EQ(command.cdb[8], 24);
}

TEST(Command, IsRetriedIfTheUnitDidNotStartIt) {
  EXPECT_EQ(RetryActionFor({}), RetryAction::kFinal);
  EXPECT_EQ(RetryActionFor({.status = SCSI_STATUS_BUSY}), RetryAction::kAfterPause);
  EXPECT_EQ(RetryActionFor({.status = SCSI_STATUS_TASK_SET_FULL}), RetryAction::kAfterPause);
  EXPECT_EQ(RetryActionFor({.status = SCSI_STATUS_RESERVATION_CONFLICT}), RetryAction::kFinal);
  EXPECT_EQ(RetryActionFor(CheckCondition(SCSI_SENSE_UNIT_ATTENTION, 0x2900)),
            RetryAction::kAtOnce);
  EXPECT_EQ(RetryActionFor(CheckCondition(SCSI_SENSE_NOT_READY, 0x0401)), RetryAction::kAfterPause);
  EXPECT_EQ(RetryActionFor(CheckCondition(SCSI_SENSE_MEDIUM_ERROR, 0x1100)), RetryAction::kFinal);
  EXPECT_EQ(RetryActionFor({.kind = CommandResult::Kind::kTimedOut, .status = SCSI_STATUS_BUSY}),
            RetryAction::kFinal);
}

TEST(Command, MayHaveBeenSentToAnotherUnit) {
  for (uint16_t code : {0x3f0e, 0x3f03, 0x2900, 0x2907, 0x2800})
    EXPECT_TRUE(MayBeAnotherUnit(CheckCondition(SCSI_SENSE_UNIT_ATTENTION, code))) << code;
  EXPECT_TRUE(MayBeAnotherUnit(CheckCondition(SCSI_SENSE_ILLEGAL_REQUEST, kUnitNotSupported)));
  EXPECT_FALSE(MayBeAnotherUnit({}));
  EXPECT_FALSE(MayBeAnotherUnit(CheckCondition(SCSI_SENSE_UNIT_ATTENTION, kCapacityChanged)));
  EXPECT_FALSE(MayBeAnotherUnit(CheckCondition(SCSI_SENSE_ILLEGAL_REQUEST, 0x2400)));
  EXPECT_FALSE(MayBeAnotherUnit({.kind = CommandResult::Kind::kTimedOut}));
}

TEST(Command, ConvertsTheSenseDataToAStatus) {
  EXPECT_EQ(ToIoStatus(IoType::kRead, {}), IoStatus::kOk);
  EXPECT_EQ(ToIoStatus(IoType::kRead, {.kind = CommandResult::Kind::kAborted}), IoStatus::kAborted);
  EXPECT_EQ(ToIoStatus(IoType::kRead, CheckCondition(SCSI_SENSE_ILLEGAL_REQUEST, 0x2100)),
            IoStatus::kOutOfRange);
  EXPECT_EQ(ToIoStatus(IoType::kUnmap, CheckCondition(SCSI_SENSE_ILLEGAL_REQUEST, 0x2000)),
            IoStatus::kUnsupported);
  EXPECT_EQ(ToIoStatus(IoType::kFlush, CheckCondition(SCSI_SENSE_ILLEGAL_REQUEST, 0x2000)),
            IoStatus::kOk);
  EXPECT_EQ(ToIoStatus(IoType::kWrite, CheckCondition(SCSI_SENSE_DATA_PROTECTION, 0x2700)),
            IoStatus::kReadOnly);
  EXPECT_EQ(ToIoStatus(IoType::kWrite, CheckCondition(SCSI_SENSE_DATA_PROTECTION, 0x2707)),
            IoStatus::kNoSpace);
  EXPECT_EQ(ToIoStatus(IoType::kWrite, {.kind = CommandResult::Kind::kReplaced}), IoStatus::kGone);
  EXPECT_EQ(ToIoStatus(IoType::kRead, CheckCondition(SCSI_SENSE_MEDIUM_ERROR, 0x1100)),
            IoStatus::kFailed);
}

TEST(CommandList, KeepsTheOrder) {
  std::vector<Command> commands(4);
  CommandList list;
  list.PushBack(commands[2]);
  list.PushBack(commands[3]);
  CommandList before;
  before.PushBack(commands[1]);
  before.PushFront(commands[0]);
  list.Prepend(std::move(before));
  EXPECT_EQ(list.size(), 4u);
  list.Remove(commands[1]);
  EXPECT_EQ(&list.PopFront(), &commands[0]);
  EXPECT_EQ(&list.PopFront(), &commands[2]);
  EXPECT_EQ(&list.PopFront(), &commands[3]);
  EXPECT_TRUE(list.empty());
}

}  // namespace
}  // namespace sma::storage_target::bdev_iscsi
