// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/queue_pair.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "storage_target/bdev_modules/nvme/initiator/testing/fake_remote.h"

namespace sma::storage_target::initiator {
namespace {

using nvme::IoOpcode;
using nvme::Status;
using nvme::tcp::FatalError;
using nvme::tcp::PduType;

constexpr uint8_t kLast = nvme::tcp::kFlagLastPdu;
constexpr uint8_t kLastAndSuccess = nvme::tcp::kFlagLastPdu | nvme::tcp::kFlagSuccess;

std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  return bytes;
}

// A command with its data in buffers of `piece` bytes.
struct TestRequest : Request {
  TestRequest(IoOpcode opcode, std::string content, size_t piece = 1 << 20)
      : data(std::move(content)) {
    command.opcode = static_cast<uint8_t>(opcode);
    command.nsid = 1;
    for (size_t at = 0; at < data.size(); at += piece) {
      buffers.push_back({data.data() + at, std::min(piece, data.size() - at)});
    }
    iovs = buffers.data();
    iov_count = static_cast<uint32_t>(buffers.size());
    data_bytes = static_cast<uint32_t>(data.size());
    done = [](Request& self, const nvme::Completion& completion) {
      auto& request = static_cast<TestRequest&>(self);
      ++request.times_done;
      request.status = nvme::StatusOf(completion.status);
      request.dw0 = completion.dw0;
    };
  }
  bool is_done() const { return times_done == 1; }

  std::string data;
  std::vector<iovec> buffers;
  int times_done = 0;
  Status status = Status::kSuccess;
  uint32_t dw0 = 0;
};

TestRequest ReadRequest(size_t size, size_t piece = 1 << 20) {
  return TestRequest(IoOpcode::kRead, std::string(size, '\0'), piece);
}

class QueuePairTest : public testing::Test {
 protected:
  QueuePair::Options MakeOptions() const {
    return {.association = {.address = *Address::Parse("127.0.0.1", "4420"),
                            .source = {},
                            .subnqn = "nqn.2016-06.io.spdk:remote0",
                            .hostnqn = "nqn.2016-06.io.spdk:host0",
                            .host_id = *base::Uuid::ParseHex("000102030405060708090a0b0c0d0e0f"),
                            .header_digest = digests_,
                            .data_digest = digests_},
            .queue_id = 1,
            .controller_id = 7,
            .entries = entries_,
            .in_capsule_bytes = 4096};
  }
  void Start() {
    queue_.emplace(MakeOptions());
    queue_->StartOn(remote_.TakeHostEnd());
    remote_.set_pump([this] { queue_->Poll(); });
  }
  void Connect(uint32_t maxh2cdata = 128 * 1024, uint8_t cpda = 0) {
    Start();
    remote_.Accept(7, maxh2cdata, cpda);
    PumpUntil([this] { return queue_->ready(); });
  }
  void PumpUntil(const std::function<bool()>& condition) {
    for (int i = 0; i < 20000 && !condition(); ++i) queue_->Poll();
    ASSERT_TRUE(condition());
  }
  uint16_t SubmitAndRead(Request& request) {
    EXPECT_TRUE(queue_->Submit(request));
    return remote_.Read().command().cid;
  }
  void ExpectClosed(FatalError why) {
    HostPdu pdu = remote_.Read();
    EXPECT_EQ(pdu.header.type, PduType::kH2cTermReq);
    EXPECT_EQ(pdu.As<nvme::tcp::TermReq>().fes, why);
    EXPECT_TRUE(remote_.ReadsEnd());
    EXPECT_TRUE(queue_->closed());
  }

  bool digests_ = false;
  uint16_t entries_ = 9;
  FakeRemote remote_;
  std::optional<QueuePair> queue_;
};

TEST_F(QueuePairTest, ConnectsWithTheFieldsOfItsOptions) {
  Start();
  nvme::tcp::IcReq ic_request = remote_.Initialize();
  EXPECT_EQ(ic_request.pfv, 0);
  EXPECT_EQ(ic_request.hpda, 0);
  EXPECT_EQ(ic_request.digests, 0);
  EXPECT_EQ(ic_request.maxr2t, 0u);

  HostPdu connect = remote_.Read();
  auto command = std::bit_cast<nvme::ConnectCommand>(connect.command());
  EXPECT_EQ(command.type, nvme::FabricsType::kConnect);
  EXPECT_EQ(command.sgl.type, nvme::SglType::kDataBlockOffset);
  EXPECT_EQ(command.sgl.length, 1024u);
  EXPECT_EQ(command.queue_id, 1);
  EXPECT_EQ(command.sq_size, 8);
  ASSERT_EQ(connect.data.size(), sizeof(nvme::ConnectData));
  nvme::ConnectData data;
  std::memcpy(&data, connect.data.data(), sizeof data);
  EXPECT_EQ(data.host_id[15], 0x0f);
  EXPECT_EQ(data.controller_id, 7);
  EXPECT_STREQ(data.subsystem_nqn.data(), "nqn.2016-06.io.spdk:remote0");
  EXPECT_STREQ(data.host_nqn.data(), "nqn.2016-06.io.spdk:host0");

  EXPECT_FALSE(queue_->ready());
  remote_.SendResponse(command.cid, Status::kSuccess, 7);
  PumpUntil([this] { return queue_->ready(); });
  EXPECT_EQ(queue_->controller_id(), 7);
}

TEST_F(QueuePairTest, ReportsWhyConnectWasRefused) {
  Start();
  remote_.Initialize();
  remote_.SendResponse(remote_.Read().command().cid, Status::kConnectInvalidHost);
  PumpUntil([this] { return queue_->closed(); });
  EXPECT_EQ(queue_->close_reason(), "Connect was refused: this host is not allowed");
}

TEST_F(QueuePairTest, RefusesCommandsBeforeItIsReadyAndAfterItIsClosed) {
  Start();
  TestRequest request = ReadRequest(512);
  EXPECT_FALSE(queue_->Submit(request));
  remote_.CloseConnection();
  PumpUntil([this] { return queue_->closed(); });
  EXPECT_FALSE(queue_->Submit(request));
  EXPECT_EQ(request.times_done, 0);
}

TEST_F(QueuePairTest, ReadsDataWithTheSuccessFlag) {
  Connect();
  TestRequest request = ReadRequest(4096, 1000);
  ASSERT_TRUE(queue_->Submit(request));
  nvme::Command command = remote_.Read().command();
  EXPECT_EQ(command.opcode, static_cast<uint8_t>(IoOpcode::kRead));
  EXPECT_EQ(command.flags, nvme::kPsdtSgl);
  EXPECT_EQ(command.sgl.type, nvme::SglType::kTransportDataBlock);
  EXPECT_EQ(command.sgl.length, 4096u);
  remote_.SendData(command.cid, 0, Pattern(4096), kLastAndSuccess);
  PumpUntil([&] { return request.is_done(); });
  EXPECT_EQ(request.status, Status::kSuccess);
  EXPECT_EQ(request.data, Pattern(4096));
}

TEST_F(QueuePairTest, ReadsLargeDataInSeveralPdusIntoManyBuffers) {
  Connect();
  const size_t size = 1 << 20;
  TestRequest request = ReadRequest(size, 4093);
  uint16_t cid = SubmitAndRead(request);
  const std::string data = Pattern(size);
  for (size_t at = 0; at < size; at += size / 4) {
    remote_.SendData(cid, static_cast<uint32_t>(at), data.substr(at, size / 4), 0);
  }
  EXPECT_FALSE(request.is_done());
  remote_.SendResponse(cid);
  PumpUntil([&] { return request.is_done(); });
  EXPECT_TRUE(request.data == data);
}

TEST_F(QueuePairTest, ReadsWhenBytesComeOneAtATime) {
  digests_ = true;
  Connect();
  TestRequest request = ReadRequest(100, 30);
  uint16_t cid = SubmitAndRead(request);
  nvme::tcp::DataPdu pdu;
  pdu.header.flags = kLast;
  pdu.cccid = cid;
  pdu.data_length = 100;
  nvme::tcp::CapsuleResp response;
  response.completion.cid = cid;
  for (char byte : remote_.Encode(pdu, Pattern(100)) + remote_.Encode(response)) {
    remote_.SendBytes({&byte, 1});
    queue_->Poll();
  }
  EXPECT_TRUE(request.is_done());
  EXPECT_EQ(request.status, Status::kSuccess);
  EXPECT_EQ(request.data, Pattern(100));
}

TEST_F(QueuePairTest, UsesAPartOfTheBuffers) {
  Connect();
  TestRequest request = ReadRequest(3000, 1000);
  request.iovs = &request.buffers[1];
  request.iov_offset_bytes = 500;
  request.data_bytes = 1000;
  uint16_t cid = SubmitAndRead(request);
  remote_.SendData(cid, 0, std::string(1000, 'x'), kLastAndSuccess);
  PumpUntil([&] { return request.is_done(); });
  EXPECT_EQ(request.data,
            std::string(1500, '\0') + std::string(1000, 'x') + std::string(500, '\0'));
}

TEST_F(QueuePairTest, WritesSmallDataInTheCapsule) {
  Connect(128 * 1024, /*cpda=*/15);
  TestRequest request(IoOpcode::kWrite, Pattern(4096), 1000);
  ASSERT_TRUE(queue_->Submit(request));
  HostPdu pdu = remote_.Read();
  EXPECT_EQ(pdu.header.pdo, 128);
  EXPECT_EQ(pdu.command().sgl.type, nvme::SglType::kDataBlockOffset);
  EXPECT_EQ(pdu.data, Pattern(4096));
  remote_.SendResponse(pdu.command().cid, Status::kWriteFault, 5);
  PumpUntil([&] { return request.is_done(); });
  EXPECT_EQ(request.status, Status::kWriteFault);
  EXPECT_EQ(request.dw0, 5u);
}

TEST_F(QueuePairTest, WritesLargeDataAsRequestedByTheController) {
  digests_ = true;
  Connect(8192);
  const std::string data = Pattern(100000);
  TestRequest request(IoOpcode::kWrite, data, 4100);
  ASSERT_TRUE(queue_->Submit(request));
  HostPdu command = remote_.Read();
  EXPECT_EQ(command.data, "");
  EXPECT_EQ(command.command().sgl.type, nvme::SglType::kTransportDataBlock);
  uint16_t cid = command.command().cid;
  std::string received;
  for (auto [offset, length] : {std::pair<uint32_t, uint32_t>{0, 60000}, {60000, 40000}}) {
    remote_.SendR2t(cid, 99, offset, length);
    while (received.size() < offset + length) {
      HostPdu pdu = remote_.Read();
      auto data_pdu = pdu.As<nvme::tcp::DataPdu>();
      ASSERT_EQ(pdu.header.type, PduType::kH2cData);
      EXPECT_EQ(data_pdu.cccid, cid);
      EXPECT_EQ(data_pdu.ttag, 99);
      EXPECT_EQ(data_pdu.data_offset, received.size());
      EXPECT_EQ(data_pdu.data_length, pdu.data.size());
      received += pdu.data;
      EXPECT_EQ((pdu.header.flags & kLast) != 0, received.size() == offset + length);
    }
  }
  EXPECT_TRUE(received == data);
  EXPECT_FALSE(request.is_done());
  remote_.SendResponse(cid);
  PumpUntil([&] { return request.is_done(); });
}

TEST_F(QueuePairTest, WritesDataInMoreBuffersThanOneSystemCallTakes) {
  Connect(1 << 20);
  const std::string data = Pattern(64 * 1024);
  TestRequest request(IoOpcode::kWrite, data, 16);  // 4,096 buffers
  uint16_t cid = SubmitAndRead(request);
  remote_.SendR2t(cid, 1, 0, 64 * 1024);
  std::string received;
  while (received.size() < data.size()) received += remote_.Read().data;
  EXPECT_TRUE(received == data);
  remote_.SendResponse(cid);
  PumpUntil([&] { return request.is_done(); });
}

TEST_F(QueuePairTest, HoldsCommandsBeyondTheQueueSize) {
  entries_ = 3;
  Connect();
  std::vector<TestRequest> requests;
  for (int i = 0; i < 4; ++i) requests.push_back(ReadRequest(0));
  for (TestRequest& request : requests) ASSERT_TRUE(queue_->Submit(request));
  EXPECT_EQ(queue_->outstanding(), 4u);
  uint16_t first = remote_.Read().command().cid;
  uint16_t second = remote_.Read().command().cid;
  EXPECT_NE(first, second);
  char byte;
  queue_->Poll();
  EXPECT_EQ(recv(remote_.fd(), &byte, 1, 0), -1) << "more commands than the queue has entries";

  remote_.SendResponse(second);
  EXPECT_EQ(remote_.Read().command().cid, second);
  EXPECT_TRUE(requests[1].is_done());
  remote_.SendResponse(first);
  EXPECT_EQ(remote_.Read().command().cid, first);
  remote_.SendResponse(first);
  remote_.SendResponse(second);
  PumpUntil([this] { return queue_->outstanding() == 0; });
}

TEST_F(QueuePairTest, EndsEveryRequestWhenTheConnectionIsLost) {
  entries_ = 3;
  Connect();
  std::vector<TestRequest> requests;
  for (int i = 0; i < 4; ++i) requests.push_back(ReadRequest(512));
  for (TestRequest& request : requests) ASSERT_TRUE(queue_->Submit(request));
  remote_.Read();
  remote_.CloseConnection();
  PumpUntil([this] { return queue_->closed(); });
  for (const TestRequest& request : requests) {
    EXPECT_TRUE(request.is_done());
    EXPECT_EQ(request.status, Status::kHostPathingError);
  }
  EXPECT_EQ(queue_->outstanding(), 0u);
}

TEST_F(QueuePairTest, MayBeClosedInACallback) {
  Connect();
  struct Closer : TestRequest {
    Closer() : TestRequest(IoOpcode::kFlush, "") {
      done = [](Request& self, const nvme::Completion&) {
        static_cast<Closer&>(self).queue->Close("enough");
      };
    }
    QueuePair* queue = nullptr;
  } closer;
  closer.queue = &*queue_;
  TestRequest other = ReadRequest(512);
  uint16_t cid = SubmitAndRead(closer);
  SubmitAndRead(other);
  remote_.SendResponse(cid);
  PumpUntil([this] { return queue_->closed(); });
  EXPECT_TRUE(other.is_done());
  EXPECT_EQ(queue_->close_reason(), "enough");
}

TEST_F(QueuePairTest, KeepsDataUntilTheyAreSentAlthoughTheCommandWasAnswered) {
  Connect(8192);
  const size_t size = 8 << 20;  // more than the socket accepts at once, and more than one batch
  TestRequest request(IoOpcode::kWrite, Pattern(size));
  uint16_t cid = SubmitAndRead(request);
  remote_.SendR2t(cid, 1, 0, size);
  remote_.SendResponse(cid, Status::kWriteFault);
  for (int i = 0; i < 100; ++i) queue_->Poll();
  EXPECT_FALSE(request.is_done()) << "its memory is still being sent";
  // PDUs that have been sent in part are completed; others are not sent.
  TestRequest next = ReadRequest(512);
  ASSERT_TRUE(queue_->Submit(next));
  std::string received;
  HostPdu pdu;
  while ((pdu = remote_.Read()).header.type == PduType::kH2cData) received += pdu.data;
  EXPECT_EQ(pdu.header.type, PduType::kCapsuleCmd);
  EXPECT_TRUE(request.is_done());
  EXPECT_EQ(request.status, Status::kWriteFault);
  EXPECT_LT(received.size(), size);
  EXPECT_TRUE(received == request.data.substr(0, received.size()));
  queue_->Close("the requests go");
}

TEST_F(QueuePairTest, ADataDigestErrorFailsOnlyItsCommand) {
  digests_ = true;
  Connect();
  TestRequest request = ReadRequest(512);
  uint16_t cid = SubmitAndRead(request);
  nvme::tcp::DataPdu pdu;
  pdu.header.flags = kLastAndSuccess;
  pdu.cccid = cid;
  pdu.data_length = 512;
  std::string bytes = remote_.Encode(pdu, Pattern(512));
  bytes.back() ^= 1;
  remote_.SendBytes(bytes);
  PumpUntil([&] { return request.is_done(); });
  EXPECT_EQ(request.status, Status::kTransientTransportError);
  EXPECT_TRUE(queue_->ready());
}

TEST_F(QueuePairTest, ClosesAfterAHeaderDigestError) {
  digests_ = true;
  Connect();
  TestRequest request = ReadRequest(512);
  uint16_t cid = SubmitAndRead(request);
  nvme::tcp::CapsuleResp pdu;
  pdu.completion.cid = cid;
  std::string bytes = remote_.Encode(pdu);
  bytes.back() ^= 1;
  remote_.SendBytes(bytes);
  ExpectClosed(FatalError::kHeaderDigest);
  EXPECT_EQ(request.status, Status::kHostPathingError);
}

TEST_F(QueuePairTest, RefusesASuccessWithMissingData) {
  Connect();
  TestRequest first = ReadRequest(1024);
  uint16_t cid = SubmitAndRead(first);
  remote_.SendData(cid, 0, Pattern(512), kLastAndSuccess);
  PumpUntil([&] { return first.is_done(); });
  EXPECT_EQ(first.status, Status::kDataTransferError);
  TestRequest second = ReadRequest(1024);
  remote_.SendResponse(SubmitAndRead(second));
  PumpUntil([&] { return second.is_done(); });
  EXPECT_EQ(second.status, Status::kDataTransferError);
}

TEST_F(QueuePairTest, ReportsThatTheRemoteClosedTheConnection) {
  Connect();
  nvme::tcp::TermReq pdu;
  pdu.fes = FatalError::kSequence;
  remote_.SendBytes({reinterpret_cast<const char*>(&pdu), sizeof pdu});
  PumpUntil([this] { return queue_->closed(); });
  EXPECT_EQ(queue_->close_reason(), "the remote side terminated the connection with error 2");
}

TEST_F(QueuePairTest, MeasuresTheAgeOfTheOldestCommand) {
  Connect();
  TestRequest request = ReadRequest(512);
  TestRequest event(IoOpcode::kVerify, "");
  event.command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kAsyncEventRequest);
  ASSERT_TRUE(queue_->Submit(event));
  queue_->Tick();
  uint16_t cid = (remote_.Read(), SubmitAndRead(request));
  queue_->Tick();
  EXPECT_EQ(queue_->OldestAgeTicks(), 2u);
  EXPECT_EQ(queue_->OldestAgeTicks(nvme::AdminOpcode::kAsyncEventRequest), 1u);
  remote_.SendData(cid, 0, Pattern(512), kLastAndSuccess);
  PumpUntil([&] { return request.is_done(); });
  EXPECT_EQ(queue_->OldestAgeTicks(nvme::AdminOpcode::kAsyncEventRequest), 0u);
  queue_->Close("the requests go");
}

// PDUs that a remote side must not send while a read of 4,096 bytes (CID 0) and a write of 65,536
// bytes (CID 1) are outstanding, and how the connection must then end.
struct Misdeed {
  std::string name;
  std::function<void(FakeRemote&)> act;
  FatalError error;
};

class MisdeedTest : public QueuePairTest, public testing::WithParamInterface<Misdeed> {};

TEST_P(MisdeedTest, EndsTheConnection) {
  Connect();
  TestRequest read = ReadRequest(4096);
  TestRequest write(IoOpcode::kWrite, Pattern(65536));
  ASSERT_EQ(SubmitAndRead(read), 0);
  ASSERT_EQ(SubmitAndRead(write), 1);
  GetParam().act(remote_);
  ExpectClosed(GetParam().error);
  EXPECT_EQ(read.times_done, 1);
  EXPECT_EQ(write.times_done, 1);
  EXPECT_EQ(write.status, Status::kHostPathingError);
}

template <typename Pdu>
void SendRaw(FakeRemote& remote, const Pdu& pdu) {
  remote.SendBytes({reinterpret_cast<const char*>(&pdu), sizeof pdu});
}

INSTANTIATE_TEST_SUITE_P(
    All, MisdeedTest,
    testing::Values(
        Misdeed{"ResponseToNoCommand", [](FakeRemote& r) { r.SendResponse(2); },
                FatalError::kInvalidHeaderField},
        Misdeed{"ResponseToACidBeyondTheQueue", [](FakeRemote& r) { r.SendResponse(0xffff); },
                FatalError::kInvalidHeaderField},
        Misdeed{"TwoResponses",
                [](FakeRemote& r) {
                  r.SendResponse(0, Status::kUnrecoveredReadError);
                  r.SendResponse(0, Status::kUnrecoveredReadError);
                },
                FatalError::kInvalidHeaderField},
        Misdeed{"DataForAWrite", [](FakeRemote& r) { r.SendData(1, 0, Pattern(512), 0); },
                FatalError::kInvalidHeaderField},
        Misdeed{"DataForNoCommand", [](FakeRemote& r) { r.SendData(3, 0, Pattern(512), 0); },
                FatalError::kInvalidHeaderField},
        Misdeed{"MoreDataThanAskedFor",
                [](FakeRemote& r) { r.SendData(0, 0, Pattern(4100), kLast); },
                FatalError::kDataOutOfRange},
        Misdeed{"DataBeyondTheEnd",
                [](FakeRemote& r) {
                  r.SendData(0, 0, Pattern(4000), 0);
                  r.SendData(0, 4000, Pattern(100), 0);
                },
                FatalError::kDataOutOfRange},
        Misdeed{"DataWithAGap", [](FakeRemote& r) { r.SendData(0, 512, Pattern(512), 0); },
                FatalError::kDataOutOfRange},
        Misdeed{"DataTwice",
                [](FakeRemote& r) {
                  r.SendData(0, 0, Pattern(512), 0);
                  r.SendData(0, 0, Pattern(512), 0);
                },
                FatalError::kDataOutOfRange},
        Misdeed{"DataOfNoLength", [](FakeRemote& r) { SendRaw(r, nvme::tcp::DataPdu{}); },
                FatalError::kInvalidHeaderField},
        Misdeed{"DataOfAnotherLengthThanThePdu",
                [](FakeRemote& r) {
                  nvme::tcp::DataPdu pdu;
                  pdu.data_length = 1024;
                  r.Send(pdu, Pattern(512));
                },
                FatalError::kInvalidHeaderField},
        Misdeed{"R2tForARead", [](FakeRemote& r) { r.SendR2t(0, 1, 0, 512); },
                FatalError::kInvalidHeaderField},
        Misdeed{"R2tForNoCommand", [](FakeRemote& r) { r.SendR2t(7, 1, 0, 512); },
                FatalError::kInvalidHeaderField},
        Misdeed{"R2tOfNoLength", [](FakeRemote& r) { r.SendR2t(1, 1, 0, 0); },
                FatalError::kDataOutOfRange},
        Misdeed{"R2tBeyondTheEnd", [](FakeRemote& r) { r.SendR2t(1, 1, 0, 65540); },
                FatalError::kDataOutOfRange},
        Misdeed{"R2tWhoseSumOverflows", [](FakeRemote& r) { r.SendR2t(1, 1, 0, 0xfffffffc); },
                FatalError::kDataOutOfRange},
        Misdeed{"R2tWithAGap", [](FakeRemote& r) { r.SendR2t(1, 1, 4096, 4096); },
                FatalError::kDataOutOfRange},
        Misdeed{"TwoR2tsAtOnce",
                [](FakeRemote& r) {
                  nvme::tcp::R2t pdu;
                  pdu.cccid = 1;
                  pdu.length = 4096;
                  nvme::tcp::R2t second = pdu;
                  second.offset = 4096;
                  r.SendBytes(r.Encode(pdu) + r.Encode(second));
                },
                FatalError::kDataLimitExceeded},
        Misdeed{"SecondIcResp",
                [](FakeRemote& r) {
                  nvme::tcp::IcResp pdu;
                  pdu.maxh2cdata = 4096;
                  SendRaw(r, pdu);
                },
                FatalError::kSequence},
        Misdeed{"PduOfTheHost", [](FakeRemote& r) { SendRaw(r, nvme::tcp::CapsuleCmd{}); },
                FatalError::kInvalidHeaderField},
        Misdeed{"PduOfNoType",
                [](FakeRemote& r) {
                  nvme::tcp::CapsuleResp pdu;
                  pdu.header.type = static_cast<PduType>(0x42);
                  SendRaw(r, pdu);
                },
                FatalError::kInvalidHeaderField},
        Misdeed{"HeaderTooLong",
                [](FakeRemote& r) {
                  nvme::tcp::CapsuleResp pdu;
                  pdu.header.hlen = 72;
                  SendRaw(r, pdu);
                },
                FatalError::kInvalidHeaderField}),
    [](const auto& test) { return test.param.name; });

// Tests invalid fields in an ICResp.
class IcRespTest : public QueuePairTest,
                   public testing::WithParamInterface<std::pair<std::string, nvme::tcp::IcResp>> {};

TEST_P(IcRespTest, IsRefused) {
  Start();
  remote_.Read();
  SendRaw(remote_, GetParam().second);
  PumpUntil([this] { return queue_->closed(); });
}

nvme::tcp::IcResp MakeIcResp(uint16_t pfv, uint8_t cpda, uint8_t digests, uint32_t maxh2cdata) {
  nvme::tcp::IcResp pdu;
  pdu.pfv = pfv;
  pdu.cpda = cpda;
  pdu.digests = digests;
  pdu.maxh2cdata = maxh2cdata;
  return pdu;
}

INSTANTIATE_TEST_SUITE_P(All, IcRespTest,
                         testing::Values(std::pair{"Version", MakeIcResp(1, 0, 0, 4096)},
                                         std::pair{"Alignment", MakeIcResp(0, 32, 0, 4096)},
                                         std::pair{"DigestNotAskedFor", MakeIcResp(0, 0, 1, 4096)},
                                         std::pair{"SmallData", MakeIcResp(0, 0, 0, 4092)},
                                         std::pair{"OddData", MakeIcResp(0, 0, 0, 5001)}),
                         [](const auto& test) { return test.param.first; });

}  // namespace
}  // namespace sma::storage_target::initiator
