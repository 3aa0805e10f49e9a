// SPDX-License-Identifier: Apache-2.0

// Tests a delayed reactor: commands that a host sent to it before the host continued on another
// connection must not overwrite data that the host has written since.

#include <poll.h>

#include <deque>
#include <future>
#include <optional>
#include <thread>

#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/nvme/identify_namespace.h"
#include "storage_target/nvme/log_page.h"
#include "storage_target/nvmf/tcp/testing/test_target.h"
#include "storage_target/reactor/hold_point.h"

namespace sma::storage_target::nvmf::tcp {
namespace {

using nvme::AdminOpcode;
using nvme::IoOpcode;
using nvme::Status;

/// Blocks a reactor from construction until Release.
class HeldReactor {
 public:
  explicit HeldReactor(Reactor& reactor) {
    std::promise<void> held;
    reactor.Post([&held, released = released_.get_future().share()] {
      held.set_value();
      released.wait();
    });
    held.get_future().wait();
  }
  ~HeldReactor() { Release(); }
  void Release() {
    if (!std::exchange(is_released_, true)) released_.set_value();
  }

 private:
  std::promise<void> released_;
  bool is_released_ = false;
};

class LateReactorTest : public testing::Test {
 protected:
  static constexpr int kLate = 1;
  static constexpr int kOther = 0;

  // Creates connections that have sent only ICReq, sorted by the reactor to which they belong.
  LateReactorTest() {
    for (int i = 0; i < 16; ++i) {
      const std::vector<uint64_t> before = Unassociated();
      TestHost host = target_.Dial();
      host.Initialize();
      const std::vector<uint64_t> after = Unassociated();
      connections_[after[kLate] > before[kLate] ? kLate : kOther].push_back(std::move(host));
    }
    EXPECT_GE(connections_[kOther].size(), 3u);
    EXPECT_GE(connections_[kLate].size(), 1u);
  }

  std::vector<uint64_t> Unassociated() {
    std::vector<uint64_t> counts;
    for (const auto& group : target_.target().poll_groups())
      counts.push_back(group->unassociated_queue_pairs.load());
    return counts;
  }
  TestHost Take(int reactor) {
    TestHost host = std::move(connections_[reactor].front());
    connections_[reactor].pop_front();
    return host;
  }
  TestHost Admin() {
    TestHost host = Take(kOther);
    FinishAdmin(host, host.Connect(TestHost::ConnectDataFor(TestTarget::kNqn)));
    return host;
  }
  void FinishAdmin(TestHost& host, const nvme::Completion& completion) {
    EXPECT_EQ(nvme::StatusOf(completion.status), Status::kSuccess);
    cntlid_ = nvme::ConnectControllerId(completion.dw0);
    EXPECT_EQ(nvme::StatusOf(host.Enable().status), Status::kSuccess);
  }
  TestHost Io(int reactor) {
    TestHost host = Take(reactor);
    EXPECT_EQ(nvme::StatusOf(
                  host.Connect(TestHost::ConnectDataFor(TestTarget::kNqn, cntlid_), 1, 127).status),
              Status::kSuccess);
    host.negotiated.max_in_capsule = 4096;
    return host;
  }
  static nvme::Command Block0(IoOpcode opcode) {
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(opcode);
    command.nsid = 1;
    command.sgl.length = 4096;
    return command;
  }
  static std::vector<std::byte> Block(int value) {
    return std::vector<std::byte>(4096, static_cast<std::byte>(value));
  }
  static bool HasAnswer(TestHost& host, int timeout_ms) {
    pollfd ready{host.fd(), POLLIN, 0};
    return ::poll(&ready, 1, timeout_ms) == 1;
  }

  /// Connects the host again and writes 2 to block 0. The delayed reactor continues when the new
  /// association is found to be waiting for it, or when the write has completed.
  template <typename Release>
  void WriteThroughNewAssociation(Release release) {
    TestHost admin = Take(kOther);
    nvme::ConnectCommand command;
    command.sq_size = 31;
    const nvme::ConnectData data = TestHost::ConnectDataFor(TestTarget::kNqn);
    admin.SendCommand(std::bit_cast<nvme::Command>(command), std::as_bytes(std::span(&data, 1)));
    const bool waits = !HasAnswer(admin, 200);
    if (waits) release();
    auto answer = admin.Receive();
    EXPECT_TRUE(answer);
    FinishAdmin(admin, answer.value_or(TestHost::Pdu()).As<nvme::tcp::CapsuleResp>().completion);
    TestHost io = Io(kOther);
    EXPECT_EQ(io.Execute(Block0(IoOpcode::kWrite), Block(2)).status(), Status::kSuccess);
    if (!waits) release();
    // The delayed reactor has finished its work.
    target_.reactor(kLate).Invoke([] {});
    while (Controllers() != 1) target_.reactor(kLate).Invoke([] {});
    EXPECT_EQ(io.Execute(Block0(IoOpcode::kRead)).data, Block(2));
  }
  size_t Controllers() {
    size_t count = 0;
    target_.InControl([&] { count = target_.subsystem().associations().all().size(); });
    return count;
  }

  TestTarget target_{Options(), 2};
  std::deque<TestHost> connections_[2];
  uint16_t cntlid_ = 0;
};

TEST_F(LateReactorTest, AWriteOfAReconnectedHostIsNotExecutedLate) {
  TestHost admin = Admin();
  TestHost io = Io(kLate);
  HeldReactor held(target_.reactor(kLate));
  io.SendCommand(Block0(IoOpcode::kWrite), Block(1));
  io.Close();
  admin.Close();
  WriteThroughNewAssociation([&] { held.Release(); });
}

TEST_F(LateReactorTest, AWriteToARemovedNamespaceDoesNotReachItsSuccessor) {
  TestHost admin = Admin();
  TestHost io = Io(kLate);
  target_.InControl([&] { target_.AddDisk("second"); });
  target_.Wait([&](auto done) { EXPECT_EQ(target_.subsystem().namespaces().Remove(1, done), 0); });
  HeldReactor held(target_.reactor(kLate));
  io.SendCommand(Block0(IoOpcode::kWrite), Block(1));
  nvme::Command list;
  list.opcode = static_cast<uint8_t>(AdminOpcode::kIdentify);
  list.cdw10 = static_cast<uint32_t>(nvme::Cns::kActiveNamespaceList);
  list.sgl.length = 4096;
  EXPECT_EQ(admin.Execute(list).type(), nvme::tcp::PduType::kC2hData);  // the host is notified
  std::promise<void> added;
  target_.InControl([&] {
    target_.subsystem().namespaces().Add({.bdev_name = "second", .nsid = 1}, [&](auto nsid) {
      EXPECT_TRUE(nsid.ok());
      added.set_value();
    });
  });
  held.Release();
  auto answer = io.Receive();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status(), Status::kInvalidNamespaceOrFormat);
  added.get_future().wait();
  EXPECT_EQ(io.Execute(Block0(IoOpcode::kRead)).data, Block(0));
}

// A process that was stopped finds the sockets and timers of the meantime together.
class LateKeepAliveTest : public testing::Test {
 protected:
  static constexpr uint32_t kKeepAliveMs = 300;

  LateKeepAliveTest() {
    admin_.Initialize();
    nvme::Completion completion =
        admin_.Connect(TestHost::ConnectDataFor(TestTarget::kNqn), 0, 31, kKeepAliveMs);
    EXPECT_EQ(nvme::StatusOf(completion.status), Status::kSuccess);
    admin_.Enable();
    io_.Initialize();
    io_.Connect(
        TestHost::ConnectDataFor(TestTarget::kNqn, nvme::ConnectControllerId(completion.dw0)), 1,
        127);
    io_.negotiated.max_in_capsule = 4096;
  }
  static Options ShortKeepAlive() {
    Options options;
    options.limits.keep_alive_granularity_ms = options.limits.min_keep_alive_ms = 10;
    return options;
  }
  void SendWrite(uint64_t lba) {
    nvme::Command write;
    write.opcode = static_cast<uint8_t>(IoOpcode::kWrite);
    write.nsid = 1;
    write.cdw10 = static_cast<uint32_t>(lba);
    write.cid = static_cast<uint16_t>(lba + 1);
    write.sgl.length = 4096;
    io_.SendCommand(write, std::vector<std::byte>(4096, std::byte{1}));
  }
  static void SleepMs(uint32_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }
  void SetWriteLimit(uint64_t bytes_per_sec) {
    target_.InControl([&] {
      target_.registry().SetLimits(*target_.registry().Find("disk"),
                                   {.w_bytes_per_sec = bytes_per_sec});
    });
    target_.reactor(0).Invoke([] {});
  }
  uint64_t Writes() {
    uint64_t count = 0;
    target_.InControl(
        [&] { count = target_.registry().Find("disk")->stats()[bdev::IoType::kWrite].ops; });
    return count;
  }
  static nvme::Command Read(uint64_t lba) {
    nvme::Command read;
    read.opcode = static_cast<uint8_t>(IoOpcode::kRead);
    read.nsid = 1;
    read.cdw10 = static_cast<uint32_t>(lba);
    read.sgl.length = 4096;
    return read;
  }
  void ExpectEmpty(uint64_t lba) {
    TestHost other = target_.DialAdmin();
    TestHost reader = target_.DialIo();
    EXPECT_EQ(reader.Execute(Read(lba)).data, std::vector<std::byte>(4096));
  }
  // The target executes the write to block 0; that to block 1 waits.
  void ExecuteFirstOfTwoWrites() {
    SendWrite(0);
    EXPECT_TRUE(io_.Receive());
    SendWrite(1);
    EXPECT_EQ(io_.Execute(Read(2)).data, std::vector<std::byte>(4096));
    EXPECT_EQ(Writes(), 1U);
  }

  TestTarget target_{ShortKeepAlive()};
  TestHost admin_ = target_.Dial();
  TestHost io_ = target_.Dial();
};

// The timer of the keep-alive time belongs to the same reactor, and runs after its sockets have
// been read.
TEST_F(LateKeepAliveTest, ACommandAfterTheKeepAliveTimeIsNotExecuted) {
  HeldReactor held(target_.reactor(0));
  SendWrite(0);
  SleepMs(3 * kKeepAliveMs);  // the measured time
  held.Release();
  EXPECT_TRUE(io_.IsClosed());
  ExpectEmpty(0);
}

// The second write becomes due before the keep-alive time has passed, as the first timer.
TEST_F(LateKeepAliveTest, AWriteThatALimitDelaysIsNotExecutedAfterTheKeepAliveTime) {
  SetWriteLimit(4096 * 6);
  ExecuteFirstOfTwoWrites();
  HeldReactor held(target_.reactor(0));
  SleepMs(3 * kKeepAliveMs);
  held.Release();
  EXPECT_TRUE(io_.IsClosed());
  SetWriteLimit(0);
  ExpectEmpty(1);
}

// The write waits because the limit permits none for a long time. When the reactor continues, the
// end of the limit is its next task; the end of the connection has not been noticed.
TEST_F(LateKeepAliveTest, AWriteThatWaitsIsNotExecutedAfterTheHostHasLeft) {
  SetWriteLimit(8);
  ExecuteFirstOfTwoWrites();
  HeldReactor first(target_.reactor(0));
  std::promise<void> is_held, released;
  target_.reactor(0).Post([&] {
    is_held.set_value();
    released.get_future().wait();
  });
  target_.InControl([&] { target_.registry().SetLimits(*target_.registry().Find("disk"), {}); });
  first.Release();
  is_held.get_future().wait();
  io_.Close();
  SleepMs(2 * static_cast<uint32_t>(Reactor::kDelay.count()));
  released.set_value();
  target_.reactor(0).Invoke([] {});
  ExpectEmpty(1);
}

// To a host, the end of a connection means that none of its commands will be executed any more.
TEST(LateCloseTest, AConnectionIsClosedWhenItsLastWriteHasEnded) {
  bdev::TestModule module;
  module.complete_at_once = false;
  TestTarget target;
  target.InControl([&] {
    bdev::Bdev::Info info;
    info.name = "slow";
    info.block_size = 4096;
    info.block_count = 8;
    EXPECT_EQ(target.registry().Register(std::make_unique<bdev::TestBdev>(info, module)), 0);
  });
  target.Wait([&](auto done) {
    target.subsystem().namespaces().Add({.bdev_name = "slow", .nsid = 2}, [done](auto) { done(); });
  });
  TestHost admin = target.DialAdmin();
  TestHost io = target.DialIo();
  nvme::Command write;
  write.opcode = static_cast<uint8_t>(IoOpcode::kWrite);
  write.nsid = 2;
  write.sgl.length = 4096;
  io.SendCommand(write, std::vector<std::byte>(4096, std::byte{1}));
  for (bool executing = false; !executing;) {
    target.reactor(0).Invoke([&] { executing = !module.pending.empty(); });
  }
  admin.Close();  // ends the association
  pollfd ended{io.fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 200), 0);
  target.reactor(0).Invoke([&] {
    auto& channel = static_cast<bdev::TestChannel&>(*module.pending[0]->channel);
    channel.CompletePending(bdev::IoStatus::kOk);
  });
  EXPECT_TRUE(io.IsClosed());
}

#ifdef SMA_HOLD_POINTS
TEST_F(LateReactorTest, WaitsForAWriteThatIsBeingExecuted) {
  TestHost admin = Admin();
  TestHost io = Io(kLate);
  HoldPoints::Arm("nvmf.execute", kLate);
  io.SendCommand(Block0(IoOpcode::kWrite), Block(1));
  EXPECT_TRUE(HoldPoints::WaitUntilHeld());
  io.Close();
  admin.Close();
  WriteThroughNewAssociation([] { HoldPoints::Release(); });
}
#endif

}  // namespace
}  // namespace sma::storage_target::nvmf::tcp
