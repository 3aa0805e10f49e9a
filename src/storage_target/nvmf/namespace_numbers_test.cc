// SPDX-License-Identifier: Apache-2.0

// Tests which bdev an NSID refers to while namespaces are removed and added.

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "storage_target/nvme/identify_namespace.h"
#include "storage_target/nvme/log_page.h"
#include "storage_target/nvmf/testing/io_fixture.h"

namespace sma::storage_target::nvmf {
namespace {

using nvme::AdminOpcode;
using nvme::Status;

class NamespaceNumbersTest : public IoFixture {
 protected:
  explicit NamespaceNumbersTest(uint32_t retired_nsid_timeout_ms = 60'000)
      : IoFixture(retired_nsid_timeout_ms) {
    AddDisk("second", second_);
  }

  /// Starts adding a namespace. The result is the NSID or a negative errno; nullopt while the
  /// addition waits.
  std::shared_ptr<std::optional<int>> BeginAdd(const std::string& bdev, uint32_t nsid) {
    return BeginAdd({.bdev_name = bdev, .nsid = nsid});
  }
  std::shared_ptr<std::optional<int>> BeginAdd(const NamespaceOptions& options) {
    auto answer = std::make_shared<std::optional<int>>();
    subsystem_->namespaces().Add(options, [answer](auto added) {
      *answer = added.ok() ? static_cast<int>(*added) : -added.error();
    });
    return answer;
  }
  int Add(const std::string& bdev, uint32_t nsid) { return Add({.bdev_name = bdev, .nsid = nsid}); }
  int Add(const NamespaceOptions& options) {
    auto answer = BeginAdd(options);
    EXPECT_TRUE(RunUntil([&] { return answer->has_value(); }));
    return answer->value_or(0);
  }
  void Remove(uint32_t nsid) {
    Await([&](auto done) { EXPECT_EQ(subsystem_->namespaces().Remove(nsid, done), 0); });
  }
  void ReadChangedNamespaces() {
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(AdminOpcode::kGetLogPage);
    command.nsid = nvme::kBroadcastNsid;
    nvme::GetLogPage{.page = nvme::LogPage::kChangedNamespaces,
                     .retain_event = false,
                     .size_bytes = 4096,
                     .offset_bytes = 0,
                     .offset_is_index = false}
        .Encode(command);
    EXPECT_EQ(admin_->Run(command, 4096)->status(), Status::kSuccess);
  }
  void ListNamespaces() {
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(AdminOpcode::kIdentify);
    command.cdw10 = static_cast<uint32_t>(nvme::Cns::kActiveNamespaceList);
    EXPECT_EQ(admin_->Run(command, 4096)->status(), Status::kSuccess);
  }
  std::string DiskOf(uint32_t nsid) {
    for (const auto& info : subsystem_->namespaces().List()) {
      if (info->nsid == nsid) return info->descriptor->bdev().name();
    }
    return "";
  }

  bdev::TestModule second_;
  bdev::TestModule third_;
};

TEST_F(NamespaceNumbersTest, AnIdentifierNamesOneNamespace) {
  AddDisk("third", third_);
  const base::Uuid uuid(std::array<uint8_t, 16>{1});
  const base::Uuid nguid(std::array<uint8_t, 16>{2});
  const std::array<uint8_t, 8> eui64 = {3};
  EXPECT_EQ(Add({.bdev_name = "second", .uuid = uuid, .nguid = nguid, .eui64 = eui64}), 2);
  EXPECT_EQ(Add({.bdev_name = "third", .uuid = uuid}), -EEXIST);
  EXPECT_EQ(Add({.bdev_name = "third", .nguid = nguid}), -EEXIST);
  EXPECT_EQ(Add({.bdev_name = "third", .eui64 = eui64}), -EEXIST);
  EXPECT_EQ(Add("third", 0), 3);  // without an EUI-64, like the first one
}

TEST_F(NamespaceNumbersTest, AnNsidIsInUseUntilTheLastIoHasEnded) {
  module_.complete_at_once = false;
  BeginWrite(1);
  bool removed = false;
  EXPECT_EQ(subsystem_->namespaces().Remove(1, [&] { removed = true; }), 0);
  ReadChangedNamespaces();
  EXPECT_EQ(Add("second", 1), -EEXIST);
  EXPECT_EQ(Add("second", 0), 2);
  EXPECT_FALSE(removed);
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return removed; }));
}

TEST_F(NamespaceNumbersTest, UnregisteringAnOldBdevKeepsTheNextNamespace) {
  module_.complete_at_once = false;
  BeginWrite(1);
  subsystem_->namespaces().Remove(1, [] {});
  EXPECT_EQ(DiskOf(static_cast<uint32_t>(Add("second", 0))), "second");
  bool unregistered = false;
  registry_.Unregister(*registry_.Find("disk"), [&] { unregistered = true; });
  RunPosted();
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return unregistered; }));
  EXPECT_EQ(subsystem_->namespaces().List().size(), 1u);
}

TEST_F(NamespaceNumbersTest, LateDataDoesNotReachTheNextDisk) {
  io_->has_data = false;
  auto write = BeginWrite(1);
  Remove(1);
  ReadChangedNamespaces();
  EXPECT_EQ(Add("second", 1), 1);
  io_->Deliver(*write);
  EXPECT_TRUE(write->answered);
  EXPECT_EQ(write->status(), Status::kInvalidNamespaceOrFormat);
  EXPECT_TRUE(second_.seen_types.empty());
  EXPECT_TRUE(module_.seen_types.empty());
}

TEST_F(NamespaceNumbersTest, AnNsidIsFreeWhenTheHostHasReadTheLogPage) {
  Remove(1);
  auto added = BeginAdd("second", 1);
  RunPosted();
  EXPECT_FALSE(added->has_value());
  ReadChangedNamespaces();
  EXPECT_TRUE(RunUntil([&] { return added->has_value(); }));
  EXPECT_EQ(*added, 1);
}

TEST_F(NamespaceNumbersTest, AnNsidIsFreeWhenTheHostHasListedTheNamespaces) {
  Remove(1);
  auto added = BeginAdd("second", 1);
  ListNamespaces();
  EXPECT_TRUE(RunUntil([&] { return added->has_value(); }));
  EXPECT_EQ(*added, 1);
}

TEST_F(NamespaceNumbersTest, AnNsidIsFreeWhenEveryHostIsNotified) {
  FakeQueuePair* other = MakeQueuePair();
  EXPECT_EQ(other->Connect(kNqn), Status::kSuccess);
  Remove(1);
  auto added = BeginAdd("second", 1);
  ReadChangedNamespaces();
  RunPosted();
  EXPECT_FALSE(added->has_value());
  other->Hangup();
  EXPECT_TRUE(RunUntil([&] { return added->has_value(); }));
  EXPECT_EQ(*added, 1);
}

TEST_F(NamespaceNumbersTest, OtherNsidsAreAssignedMeanwhile) {
  Remove(1);
  EXPECT_EQ(Add("second", 0), 2);
}

TEST_F(NamespaceNumbersTest, TheSameDiskGetsItsNsidAgainAtOnce) {
  Remove(1);
  EXPECT_EQ(Add("disk", 1), 1);
  Remove(1);
  EXPECT_EQ(Add("disk", 0), 1);
}

TEST_F(NamespaceNumbersTest, DeletingTheSubsystemEndsTheWait) {
  Remove(1);
  auto added = BeginAdd("second", 1);
  Await([&](auto done) { target_.DeleteSubsystem(*subsystem_, done); });
  EXPECT_EQ(*added, -ECANCELED);
}

TEST_F(NamespaceNumbersTest, TheBdevOfAnAdditionThatWaitsIsInUse) {
  Remove(1);
  auto added = BeginAdd("second", 1);
  bdev::Registry::Access access = bdev::Registry::Access::kWrite;
  EXPECT_EQ(registry_.Open("second", access, nullptr).error(), EPERM);
  ReadChangedNamespaces();
  EXPECT_TRUE(RunUntil([&] { return added->has_value(); }));
  EXPECT_EQ(*added, 1);
}

// Another bdev with the same name must not take its place.
TEST_F(NamespaceNumbersTest, AnAdditionThatWaitsEndsWithItsBdev) {
  Remove(1);
  auto added = BeginAdd("second", 1);
  Await([&](auto done) { registry_.Unregister(*registry_.Find("second"), done); });
  AddDisk("second", third_);
  ReadChangedNamespaces();
  RunPosted();
  EXPECT_EQ(*added, -ENODEV);
  EXPECT_EQ(DiskOf(1), "");
}

TEST_F(NamespaceNumbersTest, AnAdditionThatWaitsEndsWhenTheFormerDiskReturns) {
  Remove(1);
  auto added = BeginAdd("second", 1);
  EXPECT_EQ(Add("disk", 1), 1);
  EXPECT_EQ(*added, -EEXIST);
}

TEST_F(NamespaceNumbersTest, EachNsidIsKeptOnceForAHostThatDoesNotNotice) {
  Controller& controller = admin_->controller();
  auto token = std::make_shared<int>();
  for (int i = 0; i < 1000; ++i) controller.async_events().NamespaceRemoved(1, token);
  EXPECT_EQ(token.use_count(), 2);
}

class ImpatientNamespaceNumbersTest : public NamespaceNumbersTest {
 protected:
  ImpatientNamespaceNumbersTest() : NamespaceNumbersTest(50) {}
};

TEST_F(ImpatientNamespaceNumbersTest, AHostThatDoesNotNoticeIsDisconnectedFirst) {
  Remove(1);
  auto added = BeginAdd("second", 1);
  RunPosted();
  EXPECT_FALSE(added->has_value());
  EXPECT_TRUE(RunUntil([&] { return added->has_value(); }));
  EXPECT_EQ(*added, 1);
  EXPECT_TRUE(admin_->closed());
  EXPECT_TRUE(io_->closed());
}

TEST_F(ImpatientNamespaceNumbersTest, AHostThatDoesNotNoticeStaysUntilTheNsidIsWanted) {
  Remove(1);
  bool passed = false;
  reactor_->AddTimer(std::chrono::milliseconds(200), [&] { passed = true; });
  EXPECT_TRUE(RunUntil([&] { return passed; }));
  EXPECT_EQ(Add("second", 0), 2);
  EXPECT_FALSE(admin_->closed());
  AddDisk("third", third_);
  EXPECT_EQ(Add("third", 1), 1);
  EXPECT_TRUE(admin_->closed());
}

// All NSIDs are retired, and the hosts are notified of the removal of different ones.
class FullNamespaceNumbersTest : public ImpatientNamespaceNumbersTest {
 protected:
  FullNamespaceNumbersTest() {
    const uint32_t count = SubsystemOptions().max_namespaces;
    for (uint32_t nsid = 2; nsid <= count; ++nsid) {
      AddDisk("old" + std::to_string(nsid), old_);
      EXPECT_EQ(Add("old" + std::to_string(nsid), 0), static_cast<int>(nsid));
    }
    EXPECT_EQ(Add("second", 0), -ENOSPC);
    Remove(1);
    late_admin_ = MakeQueuePair();
    late_admin_->ConnectAdmin(kNqn);
    for (uint32_t nsid = 2; nsid <= count; ++nsid) Remove(nsid);
  }
  void PassTimeout() {
    bool passed = false;
    reactor_->AddTimer(std::chrono::milliseconds(200), [&] { passed = true; });
    EXPECT_TRUE(RunUntil([&] { return passed; }));
  }

  bdev::TestModule old_;
  FakeQueuePair* late_admin_ = nullptr;  // does not know of NSID 1
};

TEST_F(FullNamespaceNumbersTest, OneNsidIsWantedForOneNamespace) {
  PassTimeout();
  EXPECT_EQ(Add("second", 0), 1);
  EXPECT_TRUE(admin_->closed());
  EXPECT_FALSE(late_admin_->closed());
}

TEST_F(FullNamespaceNumbersTest, TwoNsidsAreWantedForTwoNamespaces) {
  AddDisk("third", third_);
  auto second = BeginAdd("second", 0);
  auto third = BeginAdd("third", 0);
  EXPECT_TRUE(RunUntil([&] { return second->has_value() && third->has_value(); }));
  EXPECT_GT(**second, 0);
  EXPECT_GT(**third, 0);
  EXPECT_TRUE(late_admin_->closed());
}

TEST_F(FullNamespaceNumbersTest, NoNsidIsWantedAfterTheNamespaceWasAdded) {
  auto added = BeginAdd("second", 0);
  ReadChangedNamespaces();
  EXPECT_TRUE(RunUntil([&] { return added->has_value(); }));
  EXPECT_EQ(*added, 1);
  PassTimeout();
  EXPECT_FALSE(late_admin_->closed());
}

}  // namespace
}  // namespace sma::storage_target::nvmf
