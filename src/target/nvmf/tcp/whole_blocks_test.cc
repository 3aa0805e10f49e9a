// Blocks that are sent from a memory disk while they are written.

#include <poll.h>

#include <algorithm>
#include <future>

#include "target/nvmf/tcp/test_target.h"

namespace sma::target::nvmf::tcp {
namespace {

using nvme::IoOpcode;
using nvme::Status;
using nvme::tcp::PduType;

constexpr uint32_t kWholeBlocks = 32;  // the largest I/O
constexpr size_t kWholeBytes = size_t{kWholeBlocks} * TestTarget::kBlockSize;

nvme::Command FirstBlocks(IoOpcode opcode) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  command.cid = 9;
  command.nsid = 1;
  command.cdw12 = kWholeBlocks - 1;
  command.sgl.length = kWholeBytes;
  return command;
}

void WriteFirstBlocks(TestHost& host, std::byte value) {
  TestHost::Pdu r2t = host.Execute(FirstBlocks(IoOpcode::kWrite));
  ASSERT_EQ(r2t.type(), PduType::kR2t);
  host.SendH2cData(r2t.As<nvme::tcp::R2t>(), 0, std::vector(kWholeBytes, value));
  auto response = host.Receive();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status(), Status::kSuccess);
}

int CountTorn(const std::vector<std::byte>& data) {
  int torn = 0;
  for (size_t at = 0; at < data.size(); at += TestTarget::kBlockSize) {
    auto block = data.begin() + static_cast<ptrdiff_t>(at);
    if (std::count(block, block + TestTarget::kBlockSize, *block) != TestTarget::kBlockSize) ++torn;
  }
  return torn;
}

// The host reads more than its socket takes, so that sends end within a block; before it receives
// more, the other queue overwrites all blocks.
int ReadSlowlyWhileWriting(TestTarget& target, int reactors, TestHost& reader, TestHost& writer) {
  constexpr int kReads = 100;
  {  // The reads are executed in one round, before the first write.
    std::promise<void> release;
    std::shared_future<void> released(release.get_future());
    for (int i = 0; i < reactors; ++i) target.reactor(i).Post([released] { released.wait(); });
    for (int i = 0; i < kReads; ++i) reader.SendCommand(FirstBlocks(IoOpcode::kRead));
    release.set_value();
    pollfd answered{reader.fd(), POLLIN, 0};
    EXPECT_EQ(::poll(&answered, 1, 10'000), 1);
  }
  int torn = 0;
  for (int i = 0; i < kReads; ++i) {
    WriteFirstBlocks(writer, std::byte(i));
    auto pdu = reader.Receive();
    if (!pdu || pdu->type() != PduType::kC2hData || pdu->data.size() != kWholeBytes) {
      ADD_FAILURE() << "no data of read " << i;
      return torn;
    }
    torn += CountTorn(pdu->data);
  }
  return torn;
}

class WholeBlocksTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Reactors, WholeBlocksTest, testing::Values(1, 2));

TEST_P(WholeBlocksTest, ASlowReaderGetsWholeBlocks) {
  TestTarget target({}, GetParam());
  TestHost admin = target.DialAdmin();
  TestHost reader = target.DialIo();
  TestHost writer = target.DialIo(0, 2);
  const int size = 32768;
  ASSERT_EQ(::setsockopt(reader.fd(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
  // The reader's reactor owns the disk, and the writer's, if it is another one, comes later.
  EXPECT_EQ(reader.Execute(FirstBlocks(IoOpcode::kRead)).data, std::vector<std::byte>(kWholeBytes));
  EXPECT_EQ(ReadSlowlyWhileWriting(target, GetParam(), reader, writer), 0);
  EXPECT_EQ(ReadSlowlyWhileWriting(target, GetParam(), reader, writer), 0);
}

}  // namespace
}  // namespace sma::target::nvmf::tcp
