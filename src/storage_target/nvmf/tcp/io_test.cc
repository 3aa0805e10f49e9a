// SPDX-License-Identifier: Apache-2.0

#include <chrono>
#include <future>
#include <numeric>
#include <thread>

#include "storage_target/nvmf/tcp/testing/test_target.h"

namespace sma::storage_target::nvmf::tcp {
namespace {

using nvme::IoOpcode;
using nvme::Status;
using nvme::tcp::PduType;

nvme::Command Io(IoOpcode opcode, uint64_t lba, uint32_t block_count) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  command.cid = 77;
  command.nsid = 1;
  command.set_lba(lba);
  command.cdw12 = block_count - 1;
  command.sgl.length = block_count * TestTarget::kBlockSize;
  return command;
}

std::vector<std::byte> Pattern(size_t size, uint8_t seed) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 251 + seed);
  return bytes;
}

class IoTest : public testing::TestWithParam<uint8_t> {
 protected:
  TestTarget target_;
  TestHost admin_ = target_.DialAdmin(GetParam());
  TestHost io_ = target_.DialIo(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Digests, IoTest, testing::Values(0, 1, 2, 3));

TEST_P(IoTest, InCapsuleWriteAndRead) {
  auto data = Pattern(4096, 1);
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kWrite, 5, 1), data).status(), Status::kSuccess);
  TestHost::Pdu pdu = io_.Execute(Io(IoOpcode::kRead, 5, 1));
  ASSERT_EQ(pdu.type(), PduType::kC2hData);
  EXPECT_NE(pdu.header.flags & nvme::tcp::kFlagSuccess, 0);
  EXPECT_EQ(pdu.data, data);
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kCompare, 5, 1), data).status(), Status::kSuccess);
  data[4095] ^= std::byte{1};
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kCompare, 5, 1), data).status(), Status::kCompareFailure);
}

TEST_P(IoTest, AWriteThatIsAbortedBeforeItsDataArriveIsNotExecuted) {
  const auto write = [this](const std::vector<std::byte>& data, auto before_data) {
    TestHost::Pdu r2t = io_.Execute(Io(IoOpcode::kWrite, 40, 8));
    EXPECT_EQ(r2t.type(), PduType::kR2t);
    before_data();
    io_.SendH2cData(r2t.As<nvme::tcp::R2t>(), 0, data);
    return io_.Receive()->status();
  };
  const auto data = Pattern(32768, 1);
  EXPECT_EQ(write(data, [] {}), Status::kSuccess);
  const auto abort = [this] {
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kAbort);
    command.cdw10 = 77U << 16 | 1;
    EXPECT_EQ(admin_.Execute(command).status(), Status::kSuccess);
  };
  EXPECT_EQ(write(Pattern(32768, 2), abort), Status::kAbortRequested);
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kRead, 40, 8)).data, data);
}

// A host that resets or closes a connection continues elsewhere: commands that it sent on the old
// connection must not be executed later.
class LeavingHostTest : public IoTest {
 protected:
  void TestUnreadCommands(bool reset);
};
INSTANTIATE_TEST_SUITE_P(Digests, LeavingHostTest, testing::Values(0));

void LeavingHostTest::TestUnreadCommands(bool reset) {
  auto old_data = Pattern(4096, 1), new_data = Pattern(4096, 2);
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kWrite, 5, 1), old_data).status(), Status::kSuccess);
  std::promise<void> held, release;
  target_.reactor(0).Post([&] {
    held.set_value();
    release.get_future().wait();
  });
  held.get_future().wait();
  io_.SendCommand(Io(IoOpcode::kWrite, 5, 1), new_data);
  const linger mode{.l_onoff = reset, .l_linger = 0};
  ASSERT_EQ(::setsockopt(io_.fd(), SOL_SOCKET, SO_LINGER, &mode, sizeof mode), 0);
  io_.Close();
  // Waits long enough for the target to recognize that its thread was delayed.
  auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
  while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
  release.set_value();
  TestHost admin = target_.DialAdmin(GetParam());
  TestHost io = target_.DialIo(GetParam());
  EXPECT_EQ(io.Execute(Io(IoOpcode::kRead, 5, 1)).data, old_data);
}

TEST_P(LeavingHostTest, UnreadCommandsAreNotExecutedAfterAReset) { TestUnreadCommands(true); }
TEST_P(LeavingHostTest, UnreadCommandsAreNotExecutedAfterAClose) { TestUnreadCommands(false); }

TEST_P(IoTest, LargeWriteInPieces) {
  auto data = Pattern(131072, 2);
  TestHost::Pdu pdu = io_.Execute(Io(IoOpcode::kWrite, 100, 32));
  ASSERT_EQ(pdu.type(), PduType::kR2t);
  auto r2t = pdu.As<nvme::tcp::R2t>();
  EXPECT_EQ(r2t.cccid, 77);
  EXPECT_EQ(r2t.offset, 0u);
  EXPECT_EQ(r2t.length, 131072u);
  io_.SendH2cData(r2t, 0, std::span(data).first(20), false);
  io_.SendH2cData(r2t, 20, std::span(data).subspan(20, 100000), false);
  io_.SendH2cData(r2t, 100020, std::span(data).subspan(100020));
  auto response = io_.Receive();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status(), Status::kSuccess);
  pdu = io_.Execute(Io(IoOpcode::kRead, 100, 32));
  EXPECT_EQ(pdu.data, data);
}

TEST_P(IoTest, WriteZeroesAndDeallocate) {
  auto data = Pattern(4096, 3);
  for (uint64_t lba : {10, 11, 12}) io_.Execute(Io(IoOpcode::kWrite, lba, 1), data);
  nvme::Command zeroes = Io(IoOpcode::kWriteZeroes, 10, 1);
  zeroes.sgl.length = 0;
  EXPECT_EQ(io_.Execute(zeroes).status(), Status::kSuccess);
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kRead, 10, 1)).data, std::vector<std::byte>(4096));

  nvme::DsmRange ranges[2] = {{.block_count = 1, .lba = 11}, {.block_count = 1, .lba = 4096}};
  nvme::Command dsm = Io(IoOpcode::kDatasetManagement, 0, 1);
  dsm.cdw10 = 1;
  dsm.cdw11 = nvme::kDsmDeallocate;
  EXPECT_EQ(io_.Execute(dsm, std::as_bytes(std::span(ranges))).status(), Status::kLbaOutOfRange);
  ranges[1].lba = 12;
  EXPECT_EQ(io_.Execute(dsm, std::as_bytes(std::span(ranges))).status(), Status::kSuccess);
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kRead, 11, 2)).data, std::vector<std::byte>(8192));
}

TEST_P(IoTest, InvalidCommandsDoNotEndTheConnection) {
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kRead, 4096, 1)).status(), Status::kLbaOutOfRange);
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kRead, 4095, 2)).status(), Status::kLbaOutOfRange);
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kRead, UINT64_MAX, 1)).status(), Status::kLbaOutOfRange);
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kRead, 0, 33)).status(), Status::kInvalidField);
  nvme::Command other = Io(IoOpcode::kRead, 0, 1);
  other.nsid = 2;
  EXPECT_EQ(io_.Execute(other).status(), Status::kInvalidNamespaceOrFormat);
  other.nsid = nvme::kBroadcastNsid;
  EXPECT_EQ(io_.Execute(other).status(), Status::kInvalidNamespaceOrFormat);
  EXPECT_EQ(io_.Execute(Io(static_cast<IoOpcode>(0x7e), 0, 1)).status(), Status::kInvalidOpcode);
  nvme::Command short_buffer = Io(IoOpcode::kRead, 0, 2);
  short_buffer.sgl.length = 4096;
  EXPECT_EQ(io_.Execute(short_buffer).status(), Status::kDataSglLengthInvalid);
  auto data = Pattern(512, 4);
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kWrite, 0, 1), data).status(), Status::kDataSglLengthInvalid);
  // The connection must still work.
  EXPECT_EQ(io_.Execute(Io(IoOpcode::kRead, 0, 1)).type(), PduType::kC2hData);
}

TEST_P(IoTest, ManyCommandsAtOnce) {
  for (int i = 0; i < 127; ++i) io_.SendCommand(Io(IoOpcode::kRead, static_cast<uint64_t>(i), 1));
  for (int i = 0; i < 127; ++i) {
    auto pdu = io_.Receive();
    ASSERT_TRUE(pdu);
    EXPECT_EQ(pdu->data.size(), 4096u);
  }
}

TEST(IoDigestTest, WrongDataDigestFailsOnlyTheCommand) {
  TestTarget target;
  TestHost admin = target.DialAdmin();
  TestHost io = target.DialIo(nvme::tcp::kDigestData);
  auto data = Pattern(8192, 5);
  TestHost::Pdu pdu = io.Execute(Io(IoOpcode::kWrite, 0, 2));
  ASSERT_EQ(pdu.type(), PduType::kR2t);
  nvme::tcp::DataPdu header;
  header.header = nvme::tcp::MakeHeader(PduType::kH2cData, io.negotiated, 8192);
  header.header.flags |= nvme::tcp::kFlagLastPdu;
  header.cccid = 77;
  header.ttag = pdu.As<nvme::tcp::R2t>().ttag;
  header.data_length = 8192;
  io.SendStruct(header);
  io.Send(data.data(), data.size());
  io.SendStruct(uint32_t{0x12345678});
  auto response = io.Receive();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status(), Status::kTransientTransportError);
  EXPECT_EQ(io.Execute(Io(IoOpcode::kRead, 0, 2)).data, std::vector<std::byte>(8192));
}

TEST(IoAlignmentTest, DataToTheHostHasTheRequestedAlignment) {
  TestTarget target;
  TestHost admin = target.DialAdmin();
  for (uint8_t digests : {0, 3}) {
    TestHost io = target.DialIo(digests, static_cast<uint16_t>(digests + 1), 127, 31);
    TestHost::Pdu pdu = io.Execute(Io(IoOpcode::kRead, 0, 1));
    EXPECT_EQ(pdu.header.pdo, 128);
    EXPECT_EQ(pdu.data.size(), 4096u);
  }
}

TEST(IoPlainTest, SendsACapsuleWithoutTheSuccessFlag) {
  Options options;
  options.c2h_success = false;
  TestTarget target(options);
  TestHost admin = target.DialAdmin();
  TestHost io = target.DialIo();
  TestHost::Pdu pdu = io.Execute(Io(IoOpcode::kRead, 0, 1));
  EXPECT_EQ(pdu.header.flags & nvme::tcp::kFlagSuccess, 0);
  auto response = io.Receive();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status(), Status::kSuccess);
  EXPECT_EQ(response->As<nvme::tcp::CapsuleResp>().completion.sq_head, 2);
}

}  // namespace
}  // namespace sma::storage_target::nvmf::tcp
