// SPDX-License-Identifier: Apache-2.0

// Tests protocol violations by a host and their effect on its connection.

#include <chrono>

#include "base/testing/captured_log.h"
#include "storage_target/nvmf/tcp/testing/test_target.h"

namespace sma::storage_target::nvmf::tcp {
namespace {

using nvme::tcp::CommonHeader;
using nvme::tcp::DataPdu;
using nvme::tcp::FatalError;
using nvme::tcp::PduType;

nvme::Command LargeWrite() {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(nvme::IoOpcode::kWrite);
  command.cid = 9;
  command.nsid = 1;
  command.cdw12 = 3;
  command.sgl.length = 16384;
  return command;
}

void ExpectTermReq(TestHost& host, FatalError fes) {
  auto pdu = host.Receive();
  ASSERT_TRUE(pdu);
  ASSERT_EQ(pdu->type(), PduType::kC2hTermReq);
  EXPECT_EQ(pdu->fes(), fes);
  EXPECT_TRUE(host.IsClosed());
}

class HostileTest : public testing::Test {
 protected:
  nvme::tcp::R2t AskForR2t() {
    TestHost::Pdu pdu = io_.Execute(LargeWrite());
    EXPECT_EQ(pdu.type(), PduType::kR2t);
    return pdu.As<nvme::tcp::R2t>();
  }
  TestTarget target_;
  TestHost admin_ = target_.DialAdmin();
  TestHost io_ = target_.DialIo();
  std::vector<std::byte> data_ = std::vector<std::byte>(32768);
};

TEST_F(HostileTest, FirstPduIsNotIcReq) {
  TestHost host = target_.Dial();
  host.SendStruct(nvme::tcp::CapsuleCmd());
  ExpectTermReq(host, FatalError::kSequence);
}

TEST_F(HostileTest, UnsupportedPduFormat) {
  TestHost host = target_.Dial();
  nvme::tcp::IcReq request;
  request.pfv = 3;
  host.SendStruct(request);
  ExpectTermReq(host, FatalError::kUnsupportedParameter);
}

TEST_F(HostileTest, HttpRequest) {
  TestHost host = target_.Dial();
  host.Send("GET / HTTP/1.1\r\n\r\n", 18);
  ExpectTermReq(host, FatalError::kInvalidHeaderField);
}

TEST_F(HostileTest, SecondIcReq) {
  io_.SendStruct(nvme::tcp::IcReq());
  ExpectTermReq(io_, FatalError::kSequence);
}

TEST_F(HostileTest, TooMuchInCapsuleData) {
  CommonHeader header{PduType::kCapsuleCmd, 0, 72, 72, 72 + 4100};
  io_.SendStruct(header);
  ExpectTermReq(io_, FatalError::kDataLimitExceeded);
}

TEST_F(HostileTest, DataWithoutR2t) {
  io_.SendH2cData({.ttag = 3}, 0, std::span(data_).first(64));
  ExpectTermReq(io_, FatalError::kInvalidHeaderField);
}

TEST_F(HostileTest, TagOutOfRange) {
  io_.SendH2cData({.ttag = 0xffff}, 0, std::span(data_).first(64));
  ExpectTermReq(io_, FatalError::kInvalidHeaderField);
}

TEST_F(HostileTest, DataOfAnotherCommand) {
  nvme::tcp::R2t r2t = AskForR2t();
  r2t.cccid ^= 1;
  io_.SendH2cData(r2t, 0, std::span(data_).first(16384));
  ExpectTermReq(io_, FatalError::kInvalidHeaderField);
}

TEST_F(HostileTest, DataOutOfOrder) {
  io_.SendH2cData(AskForR2t(), 4096, std::span(data_).first(4096), false);
  ExpectTermReq(io_, FatalError::kSequence);
}

TEST_F(HostileTest, DataTwice) {
  nvme::tcp::R2t r2t = AskForR2t();
  io_.SendH2cData(r2t, 0, std::span(data_).first(4096), false);
  io_.SendH2cData(r2t, 0, std::span(data_).first(4096), false);
  ExpectTermReq(io_, FatalError::kSequence);
}

TEST_F(HostileTest, DataBeyondTheEnd) {
  nvme::tcp::R2t r2t = AskForR2t();
  io_.SendH2cData(r2t, 0, std::span(data_).first(16380), false);
  io_.SendH2cData(r2t, 16380, std::span(data_).first(8));
  ExpectTermReq(io_, FatalError::kDataOutOfRange);
}

TEST_F(HostileTest, OffsetOverflow) {
  io_.SendH2cData(AskForR2t(), 0xfffffffc, std::span(data_).first(8));
  ExpectTermReq(io_, FatalError::kDataOutOfRange);
}

TEST_F(HostileTest, LastPduFlagTooEarly) {
  io_.SendH2cData(AskForR2t(), 0, std::span(data_).first(8192), true);
  ExpectTermReq(io_, FatalError::kInvalidHeaderField);
}

TEST_F(HostileTest, DataLengthDiffersFromPduLength) {
  nvme::tcp::R2t r2t = AskForR2t();
  DataPdu pdu;
  pdu.header = nvme::tcp::MakeHeader(PduType::kH2cData, io_.negotiated, 64);
  pdu.cccid = r2t.cccid;
  pdu.ttag = r2t.ttag;
  pdu.data_length = 1 << 30;
  io_.SendStruct(pdu);
  ExpectTermReq(io_, FatalError::kInvalidHeaderField);
}

TEST_F(HostileTest, PduLargerThanAllowed) {
  CommonHeader header{PduType::kH2cData, nvme::tcp::kFlagLastPdu, 24, 24, 0xfffffff0};
  io_.SendStruct(header);
  ExpectTermReq(io_, FatalError::kDataLimitExceeded);
}

TEST_F(HostileTest, WrongHeaderDigest) {
  TestHost io = target_.DialIo(nvme::tcp::kDigestHeader, 2);
  nvme::tcp::CapsuleCmd capsule;
  capsule.header = nvme::tcp::MakeHeader(PduType::kCapsuleCmd, io.negotiated, 0);
  io.SendStruct(capsule);
  io.SendStruct(uint32_t{42});
  ExpectTermReq(io, FatalError::kHeaderDigest);
}

TEST_F(HostileTest, TermReqEndsTheConnection) {
  nvme::tcp::TermReq request;
  request.header.type = PduType::kH2cTermReq;
  request.fes = FatalError::kSequence;
  io_.SendStruct(request);
  EXPECT_TRUE(io_.IsClosed());
}

TEST_F(HostileTest, DisconnectDuringADataTransfer) {
  nvme::tcp::R2t r2t = AskForR2t();
  io_.SendH2cData(r2t, 0, std::span(data_).first(4096), false);
  io_.Close();
  admin_.Close();
  // The next host must be served normally.
  TestHost admin = target_.DialAdmin();
  TestHost io = target_.DialIo();
  EXPECT_EQ(io.Execute(LargeWrite()).type(), PduType::kR2t);
}

TEST_F(HostileTest, UnsupportedSglType) {
  nvme::tcp::CapsuleCmd capsule;
  capsule.command = LargeWrite();
  capsule.command.flags = nvme::kPsdtSgl;
  capsule.command.sgl.type = nvme::SglType::kKeyedDataBlock;
  io_.SendStruct(capsule);
  auto pdu = io_.Receive();
  ASSERT_TRUE(pdu);
  EXPECT_EQ(pdu->status(), nvme::Status::kSglDescriptorTypeInvalid);
  capsule.command.flags = 0;  // PRPs
  io_.SendStruct(capsule);
  EXPECT_EQ(io_.Receive()->status(), nvme::Status::kInvalidField);
  capsule.command.flags = nvme::kPsdtSgl;
  capsule.command.sgl = {.address = 4, .length = 8, .type = nvme::SglType::kDataBlockOffset};
  io_.SendStruct(capsule);
  EXPECT_EQ(io_.Receive()->status(), nvme::Status::kInvalidSglOffset);
}

TEST_F(HostileTest, MoreR2tsThanMemory) {
  // The 127 large writes need 16 MiB, but the connection has 4 MiB. The others wait, and none is
  // lost.
  nvme::Command command = LargeWrite();
  command.cdw12 = 31;
  command.sgl.length = 131072;
  for (uint16_t cid = 0; cid < 127; ++cid) {
    command.cid = cid;
    io_.SendCommand(command);
  }
  std::vector<std::byte> data(131072);
  for (int done = 0; done < 127;) {
    auto pdu = io_.Receive();
    ASSERT_TRUE(pdu);
    if (pdu->type() == PduType::kR2t) {
      io_.SendH2cData(pdu->As<nvme::tcp::R2t>(), 0, data);
    } else {
      EXPECT_EQ(pdu->status(), nvme::Status::kSuccess);
      ++done;
    }
  }
}

TEST(LogTest, AHostThatReconnectsDoesNotFillTheLog) {
  base::CapturedLog log;
  TestTarget target;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 300; ++i) {
    TestHost host = target.Dial();
    host.Send("GET / HTTP/1.1\r\n\r\n", 18);
    ExpectTermReq(host, FatalError::kInvalidHeaderField);
  }
  const auto elapsed = std::chrono::steady_clock::now() - start;
  EXPECT_LE(log.Count("127.0.0.1"), 2 * (101 + elapsed / std::chrono::seconds(1)));
}

}  // namespace
}  // namespace sma::storage_target::nvmf::tcp
