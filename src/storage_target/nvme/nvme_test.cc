// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <string>

#include "storage_target/nvme/crc32c.h"
#include "storage_target/nvme/fabrics.h"
#include "storage_target/nvme/identify_namespace.h"
#include "storage_target/nvme/log_page.h"
#include "storage_target/nvme/nqn.h"
#include "storage_target/nvme/property.h"

namespace sma::storage_target::nvme {
namespace {

TEST(Crc32cTest, KnownVectors) {
  // Test vectors of RFC 3720 B.4.
  EXPECT_EQ(Crc32c::Of(std::string(32, '\0').data(), 32), 0x8a9136aau);
  EXPECT_EQ(Crc32c::Of(std::string(32, '\xff').data(), 32), 0x62a8ab43u);
  EXPECT_EQ(Crc32c::Of("123456789", 9), 0xe3069283u);
  EXPECT_EQ(Crc32c().value(), 0u);
}

TEST(Crc32cTest, PiecesGiveTheSameAsTheWhole) {
  Crc32c crc;
  crc.Update("1234", 4);
  crc.Update("", 0);
  crc.Update("56789", 5);
  EXPECT_EQ(crc.value(), 0xe3069283u);
}

TEST(StatusTest, FieldHoldsStatusAndRetryBit) {
  EXPECT_EQ(StatusField(Status::kInvalidField), 0x0004);
  EXPECT_EQ(StatusField(Status::kConnectInvalidHost, true), 0x8308);
  uint16_t field = StatusField(Status::kCompareFailure, true);
  EXPECT_EQ(StatusOf(field), Status::kCompareFailure);
  EXPECT_TRUE(DoNotRetry(field));
  EXPECT_FALSE(DoNotRetry(StatusField(Status::kCompareFailure)));
}

TEST(PropertyTest, CapabilitiesRoundTrip) {
  Capabilities capabilities{.max_queue_entries = 128, .timeout_500ms = 30, .max_page_shift = 0};
  uint64_t cap = capabilities.Encode();
  EXPECT_EQ(cap, uint64_t{127} | 1u << 16 | uint64_t{30} << 24 | uint64_t{1} << 37);
  EXPECT_EQ(CapMaxQueueEntries(cap), 128u);
  EXPECT_EQ(CapTimeout500Ms(cap), 30u);
  EXPECT_EQ(MakeVersion(1, 4), 0x00010400u);
}

TEST(CommandTest, FabricsLayouts) {
  ConnectCommand connect;
  connect.queue_id = 3;
  connect.sq_size = 127;
  connect.keep_alive_ms = 10000;
  auto command = std::bit_cast<Command>(connect);
  EXPECT_EQ(command.opcode, 0x7f);
  EXPECT_EQ(FabricsTypeOf(command), FabricsType::kConnect);
  EXPECT_EQ(command.cdw10, 3u << 16);
  EXPECT_EQ(command.cdw11, 127u);
  EXPECT_EQ(command.cdw12, 10000u);
  EXPECT_EQ(InvalidConnectData(offsetof(ConnectData, subsystem_nqn)), 0x10100u);
  EXPECT_EQ(InvalidConnectCommand(offsetof(ConnectCommand, queue_id)), 42u);
}

TEST(CommandTest, LbaAndTransfer) {
  Command command;
  command.set_lba(0x123456789abc);
  EXPECT_EQ(command.cdw10, 0x56789abcu);
  EXPECT_EQ(command.lba(), 0x123456789abcu);
  EXPECT_EQ(TransferOf(static_cast<uint8_t>(IoOpcode::kWrite)), Transfer::kHostToController);
  EXPECT_EQ(TransferOf(static_cast<uint8_t>(IoOpcode::kRead)), Transfer::kControllerToHost);
  EXPECT_EQ(AsyncEventDw0(AsyncEventType::kNotice, 0xf0, 0x70), 0x70f002u);
}

TEST(LogPageTest, CommandRoundTrip) {
  GetLogPage wanted{.page = LogPage::kDiscovery,
                    .retain_event = true,
                    .size_bytes = (uint64_t{1} << 20) + 4,
                    .offset_bytes = 0x100000008,
                    .offset_is_index = false};
  Command command;
  wanted.Encode(command);
  GetLogPage got = GetLogPage::Decode(command);
  EXPECT_EQ(got.page, wanted.page);
  EXPECT_TRUE(got.retain_event);
  EXPECT_EQ(got.size_bytes, wanted.size_bytes);
  EXPECT_EQ(got.offset_bytes, wanted.offset_bytes);
  EXPECT_FALSE(got.offset_is_index);
}

TEST(LogPageTest, LargestSize) {
  Command command;
  command.cdw10 = 0xffff0000;
  command.cdw11 = 0xffff;
  EXPECT_EQ(GetLogPage::Decode(command).size_bytes, uint64_t{1} << 34);
}

TEST(IdentifyTest, CurrentLbaFormat) {
  IdentifyNamespace identify;
  identify.flbas = 0x22;  // format 18: bits 6:5 above bits 3:0
  identify.lba_formats[18].block_shift = 12;
  EXPECT_EQ(identify.lba_format().block_shift, 12);
}

TEST(NqnTest, Valid) {
  for (const char* nqn : {
           "nqn.2014-08.org.nvmexpress.discovery",
           "nqn.2014-08.org.nvmexpress:uuid:00112233-4455-6677-8899-aabbccddeeff",
           "nqn.2016-06.io.spdk:cnode0",
           "nqn.2016-06.io.spdk",
           "nqn.2016-06.io.spdk:a:b c/\xc3\xa4",
           "nqn.2016-12.3com.a-b:x",
       }) {
    EXPECT_TRUE(IsValidNqn(nqn)) << nqn;
  }
  std::string longest = "nqn.2016-06.io.spdk:" + std::string(223 - 20, 'x');
  EXPECT_TRUE(IsValidNqn(longest));
  EXPECT_FALSE(IsValidNqn(longest + "x"));
}

TEST(NqnTest, Invalid) {
  for (const char* nqn : {
           "",
           "bad",
           "not-an-nqn",
           "nqn.2016-06",
           "nqn.2016-06.",
           "nqn.2016-00.io.spdk:a",
           "nqn.2016-13.io.spdk:a",
           "nqn.20a6-06.io.spdk:a",
           "nqn.2016/06.io.spdk:a",
           "NQN.2016-06.io.spdk:a",
           "nqn.2016-06.io..spdk:a",
           "nqn.2016-06.-io.spdk:a",
           "nqn.2016-06.io.spdk-:a",
           "nqn.2016-06.io.spdk:",
           "nqn.2016-06.io sp:a",
           "nqn.2016-06.io.spdk:a\n",
           "nqn.2016-06.io.spdk:\xff",
           "nqn.2016-06.io.spdk:\xc0\xaf",
           "nqn.2016-06.io.spdk:\xed\xa0\x80",
           "nqn.2014-08.org.nvmexpress:uuid:00112233-4455-6677-8899-aabbccddeef",
       }) {
    EXPECT_FALSE(IsValidNqn(nqn)) << nqn;
  }
}

TEST(TextTest, PaddedAndTerminated) {
  std::array<char, 8> field;
  SetPadded(field, "abc", ' ');
  EXPECT_EQ(std::string_view(field.data(), 8), "abc     ");
  EXPECT_EQ(Unpadded(field), "abc");
  EXPECT_EQ(NulTerminated(field), "");
  SetPadded(field, "abc", '\0');
  EXPECT_EQ(NulTerminated(field), "abc");
  EXPECT_EQ(Unpadded(field), "abc");
  SetPadded(field, "0123456789", ' ');
  EXPECT_EQ(Unpadded(field), "01234567");
  SetPadded(field, "", ' ');
  EXPECT_EQ(Unpadded(field), "");
}

}  // namespace
}  // namespace sma::storage_target::nvme
