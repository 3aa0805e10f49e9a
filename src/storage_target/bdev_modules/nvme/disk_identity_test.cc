// SPDX-License-Identifier: Apache-2.0

// Tests that an I/O reaches either the intended disk or none, regardless of what the paths report
// and when.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/unique_fd.h"
#include "storage_target/bdev_modules/nvme/testing/module_fixture.h"

namespace sma::storage_target::bdev_nvme {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using initiator::FakeServer;
using namespace std::chrono_literals;

base::Uuid OtherUuid() { return *base::Uuid::ParseHex("22222222222222222222222222222222"); }

class DiskIdentityTest : public ModuleFixture {
 protected:
  static constexpr ReconnectOptions kReconnect{-1, 1, 0};

  void SetUp() override {
    server_.AddNamespace(1, 64);
    second_.AddNamespace(1, 64);
    second_.identity.controller_id = 2;
  }
  AttachOptions Options(const FakeServer& server) const {
    AttachOptions options = OptionsFor("nv0", server);
    options.reconnect = kReconnect;
    return options;
  }
  void AttachBoth(MultipathPolicy policy = MultipathPolicy::kActivePassive) {
    AttachOptions options = Options(server_);
    options.policy = policy;
    ASSERT_TRUE(Attach(options).ok());
    ASSERT_TRUE(Attach(Options(second_)).ok());
    disk_.emplace(registry_, *reactor_, "nv0n1");
    RunUntil([&] { return server_.connection_count() == 2 && second_.connection_count() == 2; });
    RunFor(50ms);
  }
  bool IsUp(size_t path) const {
    return module_.Find("nv0")->paths()[path]->state() == Path::State::kEnabled;
  }
  IoStatus Write(std::byte fill) {
    TestIo io(IoType::kWrite, 0, 1, 512, fill);
    return RunIo(*disk_->channel, io).value_or(IoStatus::kFailed);
  }
  static std::string FirstBlock(FakeServer& server) {
    return server.namespaces[1].content.substr(0, 512);
  }
  static std::string Filled(char fill) { return std::string(512, fill); }

  FakeServer second_{*reactor_};
  std::optional<TestDisk> disk_;
};

TEST_F(DiskIdentityTest, APathWithAnotherDiskUnderTheNsidGetsNoIo) {
  second_.namespaces[1].uuid = OtherUuid();
  AttachBoth(MultipathPolicy::kActiveActive);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Write(std::byte{7}), IoStatus::kOk);
  EXPECT_EQ(FirstBlock(second_), Filled(0));
  EXPECT_EQ(FirstBlock(server_), Filled(7));
  // Removes the first path, so that the second alone determines the disk.
  server_.StopListening();
  RunUntil([&] { return Find("22222222-2222-2222-2222-222222222222") != nullptr; });
  EXPECT_EQ(disk_->events.removals, 1);
}

TEST_F(DiskIdentityTest, AnotherNguidIsAnotherDisk) {
  second_.namespaces[1].nguid[3] = 1;
  AttachBoth(MultipathPolicy::kActiveActive);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Write(std::byte{7}), IoStatus::kOk);
  EXPECT_EQ(FirstBlock(second_), Filled(0));
}

TEST_F(DiskIdentityTest, ADisconnectedPathDoesNotOverrideAConnectedOne) {
  AttachBoth();
  server_.StopListening();
  RunUntil([&] { return !IsUp(0); });
  second_.namespaces[1] = {OtherUuid(), std::string(64 * 512, 'n')};
  SendNamespaceEvent(second_);
  RunUntil([&] { return Find("22222222-2222-2222-2222-222222222222") != nullptr; });
  EXPECT_EQ(disk_->events.removals, 1);
  EXPECT_EQ(FirstBlock(second_), Filled('n'));
  disk_.emplace(registry_, *reactor_, "nv0n1");
  EXPECT_EQ(Write(std::byte{8}), IoStatus::kOk);
  EXPECT_EQ(FirstBlock(second_), Filled(8));
  // The first path reconnects and reports the old disk, which must not be used.
  server_.Listen();
  RunUntil([&] { return IsUp(0); });
  RunFor(50ms);
  EXPECT_EQ(Write(std::byte{9}), IoStatus::kOk);
  EXPECT_EQ(FirstBlock(second_), Filled(9));
  EXPECT_EQ(FirstBlock(server_), Filled(0));
}

TEST_F(DiskIdentityTest, ANamespaceRemovedOnAConnectedPathIsRemoved) {
  AttachBoth();
  server_.StopListening();
  RunUntil([&] { return !IsUp(0); });
  second_.namespaces.erase(1);
  SendNamespaceEvent(second_);
  RunUntil([&] { return Find("nv0n1") == nullptr; });
}

TEST_F(DiskIdentityTest, ANamespaceOfOneControllerWaitsForThatController) {
  second_.namespaces.clear();
  AttachBoth();
  server_.StopListening();
  RunUntil([&] { return !IsUp(0); });
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{5});
  disk_->channel->Submit(write);
  RunFor(100ms);
  EXPECT_FALSE(write.result);
  server_.Listen();
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kOk);
  EXPECT_EQ(FirstBlock(server_), Filled(5));
}

TEST_F(DiskIdentityTest, IoThatWaitsForAReplacedDiskFails) {
  ASSERT_TRUE(Attach(Options(server_)).ok());
  disk_.emplace(registry_, *reactor_, "nv0n1");
  disk_->events.on_remove = nullptr;
  server_.StopListening();
  RunUntil([&] { return !IsUp(0); });
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{6});
  disk_->channel->Submit(write);
  RunFor(50ms);
  EXPECT_FALSE(write.result);
  server_.namespaces[1] = {OtherUuid(), std::string(64 * 512, 'n')};
  server_.Listen();
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kGone);
  disk_->Close();
  RunUntil([&] { return Find("nv0n1") != nullptr; });
  EXPECT_EQ(FirstBlock(server_), Filled('n'));
}

// The remote may reuse the NSID for another disk as soon as this host has read the Changed
// Namespace List.
TEST_F(DiskIdentityTest, NoWriteIsOutstandingWhenTheNsidBecomesFree) {
  ASSERT_TRUE(Attach(Options(server_)).ok());
  disk_.emplace(registry_, *reactor_, "nv0n1");
  disk_->events.on_remove = nullptr;
  bool slow = true;
  bool log_read = false;
  server_.hook = [&](uint16_t queue_id,
                     const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    bool is_log =
        queue_id == 0 && command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kGetLogPage);
    if (is_log) server_.namespaces[1] = {OtherUuid(), std::string(64 * 512, 'n')};
    log_read |= is_log;
    // Delays the first writes.
    if (queue_id != 0 && slow) return FakeServer::Reply{.held = true};
    return {};
  };
  std::vector<std::unique_ptr<TestIo>> writes;
  auto submit = [&] {
    writes.push_back(std::make_unique<TestIo>(IoType::kWrite, 0, 1, 512, std::byte{1}));
    disk_->channel->Submit(*writes.back());
  };
  for (int i = 0; i < 4; ++i) submit();
  RunFor(50ms);
  SendNamespaceEvent(server_);
  for (int i = 0; i < 4; ++i) submit();
  RunFor(100ms);
  for (int i = 0; i < 4; ++i) submit();
  RunFor(100ms);
  EXPECT_FALSE(log_read) << "before all have ended";
  slow = false;
  EXPECT_GE(server_.ReleaseHeld(), 4);
  RunUntil([&] { return disk_->events.removals == 1; });
  for (const auto& write : writes) RunUntil([&] { return write->result.has_value(); });
  EXPECT_EQ(writes.front()->result, IoStatus::kOk);
  EXPECT_EQ(writes.back()->result, IoStatus::kGone);
  EXPECT_EQ(FirstBlock(server_), Filled('n'));
  disk_->Close();
}

TEST_F(DiskIdentityTest, IoContinuesAfterAChangeOfAnotherNamespace) {
  ASSERT_TRUE(Attach(Options(server_)).ok());
  disk_.emplace(registry_, *reactor_, "nv0n1");
  server_.AddNamespace(2, 8);
  SendNamespaceEvent(server_);
  EXPECT_EQ(Write(std::byte{3}), IoStatus::kOk);
  EXPECT_EQ(disk_->events.removals, 0);
  RunUntil([&] { return Find("nv0n2") != nullptr; });
}

TEST_F(DiskIdentityTest, AnotherSubsystemAtTheAddressIsNotUsed) {
  AttachBoth();
  second_.StopListening();
  RunUntil([&] { return !IsUp(1); });
  second_.identity.serial_number[0] = 'X';
  second_.Listen();
  RunFor(500ms);
  EXPECT_FALSE(IsUp(1));
  EXPECT_EQ(Write(std::byte{4}), IoStatus::kOk);
  EXPECT_EQ(FirstBlock(second_), Filled(0));
}

// A portal that accepts connections and never answers.
class BlackHole {
 public:
  BlackHole() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_storage storage{};
    socklen_t size = initiator::Address::Parse("127.0.0.1", "0")->ToSockaddr(storage);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&storage), size), 0);
    EXPECT_EQ(listen(fd_.get(), 16), 0);
    size = sizeof name_;
    getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&name_), &size);
  }
  initiator::Address address() const {
    return *initiator::Address::Parse("127.0.0.1", std::to_string(ntohs(name_.sin_port)));
  }

 private:
  base::UniqueFd fd_;
  sockaddr_in name_{};
};

class WriteCacheTest : public DiskIdentityTest {
 protected:
  void SetUp() override {
    DiskIdentityTest::SetUp();
    second_.identity.vwc = nvme::kVwcPresent;
    Record(server_);
    Record(second_);
  }
  void Record(FakeServer& server) {
    server.hook = [&](uint16_t queue_id, const nvme::Command& command) {
      if (queue_id != 0) commands_.push_back(command);
      return std::optional<FakeServer::Reply>();
    };
  }
  int Count(nvme::IoOpcode opcode) const {
    int count = 0;
    for (const nvme::Command& command : commands_) {
      count += command.opcode == static_cast<uint8_t>(opcode) ? 1 : 0;
    }
    return count;
  }

  std::vector<nvme::Command> commands_;
};

TEST_F(WriteCacheTest, APathThatNeverWasUpDoesNotDetermineTheDisk) {
  BlackHole hole;
  AttachOptions first = Options(server_);
  first.address = hole.address();
  first.connect_timeout_us = 2'000'000;
  ASSERT_EQ(module_.Attach(first, [](auto) {}), AttachRefusal::kNone);
  ASSERT_TRUE(Attach(Options(second_)).ok());
  EXPECT_TRUE(Find("nv0n1")->info().write_cache);
  disk_.emplace(registry_, *reactor_, "nv0n1");
  for (IoType type : {IoType::kFlush, IoType::kUnmap}) {
    TestIo io(type, 0, 8, 512);
    EXPECT_EQ(RunIo(*disk_->channel, io), IoStatus::kOk);
  }
  EXPECT_EQ(Count(nvme::IoOpcode::kFlush), 1);
  EXPECT_EQ(Count(nvme::IoOpcode::kDatasetManagement), 1);
}

TEST_F(WriteCacheTest, ACacheThatAppearsLaterIsWrittenThrough) {
  AttachBoth();
  EXPECT_FALSE(Find("nv0n1")->info().write_cache);
  EXPECT_EQ(Write(std::byte{1}), IoStatus::kOk);
  EXPECT_EQ(commands_.back().cdw12 & nvme::kFua, 0u);
  server_.StopListening();
  EXPECT_EQ(Write(std::byte{2}), IoStatus::kOk);
  EXPECT_NE(commands_.back().cdw12 & nvme::kFua, 0u);
  EXPECT_EQ(FirstBlock(second_), Filled(2));
}

// The namespace is registered again, because it is write-protected on the second path.
TEST_F(WriteCacheTest, EachConnectedPathCounts) {
  server_.namespaces[1].write_protected = true;
  server_.identity.oncs &= static_cast<uint16_t>(~nvme::kOncsDatasetManagement);
  ASSERT_TRUE(Attach(Options(second_)).ok());
  EXPECT_TRUE(Find("nv0n1")->Supports(IoType::kUnmap));
  ASSERT_TRUE(Attach(Options(server_)).ok());
  RunUntil([&] { return Find("nv0n1") != nullptr && Find("nv0n1")->info().read_only; });
  EXPECT_TRUE(Find("nv0n1")->info().write_cache);  // only the first path has one
  EXPECT_FALSE(Find("nv0n1")->Supports(IoType::kUnmap));
}

TEST_F(WriteCacheTest, APathThatIsDownDoesNotCount) {
  second_.identity.oncs &= static_cast<uint16_t>(~nvme::kOncsDatasetManagement);
  ASSERT_TRUE(Attach(Options(second_)).ok());
  EXPECT_TRUE(Find("nv0n1")->info().write_cache);
  ASSERT_TRUE(Attach(Options(server_)).ok());
  second_.StopListening();
  RunUntil([&] { return !IsUp(0); });
  server_.namespaces[1].write_protected = true;
  SendNamespaceEvent(server_);
  RunUntil([&] { return Find("nv0n1") != nullptr && Find("nv0n1")->info().read_only; });
  EXPECT_FALSE(Find("nv0n1")->info().write_cache);
  EXPECT_TRUE(Find("nv0n1")->Supports(IoType::kUnmap));
}

TEST_F(DiskIdentityTest, AWriteProtectedNamespaceIsReadOnly) {
  server_.namespaces[1].write_protected = true;
  ASSERT_TRUE(Attach(Options(server_)).ok());
  EXPECT_TRUE(Find("nv0n1")->info().read_only);
  EXPECT_EQ(registry_.Open("nv0n1", bdev::Registry::Access::kWrite, nullptr).error(), EROFS);
  // The bdev is writable again when the write protection is removed.
  server_.namespaces[1].write_protected = false;
  SendNamespaceEvent(server_);
  RunUntil([&] { return Find("nv0n1") != nullptr && !Find("nv0n1")->info().read_only; });
}

TEST_F(DiskIdentityTest, OneWriteProtectedPathIsEnough) {
  second_.namespaces[1].write_protected = true;
  ASSERT_TRUE(Attach(Options(server_)).ok());
  EXPECT_FALSE(Find("nv0n1")->info().read_only);
  ASSERT_TRUE(Attach(Options(second_)).ok());
  RunUntil([&] { return Find("nv0n1") != nullptr && Find("nv0n1")->info().read_only; });
}

}  // namespace
}  // namespace sma::storage_target::bdev_nvme
