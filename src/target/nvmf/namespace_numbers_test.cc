// Which disk an NSID stands for while namespaces are removed and added.

#include <gtest/gtest.h>

#include <optional>

#include "target/nvme/identify_namespace.h"
#include "target/nvme/log_page.h"
#include "target/nvmf/io_fixture.h"

namespace sma::target::nvmf {
namespace {

using nvme::AdminOpcode;
using nvme::Status;

class NamespaceNumbersTest : public IoFixture {
 protected:
  explicit NamespaceNumbersTest(uint32_t retired_nsid_timeout_ms = 60'000)
      : IoFixture(retired_nsid_timeout_ms) {
    AddDisk("second", second_);
  }

  /// What Add has answered: the NSID, or a negative errno; nullopt as long as it waits.
  std::shared_ptr<std::optional<int>> BeginAdd(const std::string& bdev, uint32_t nsid) {
    auto answer = std::make_shared<std::optional<int>>();
    subsystem_->namespaces().Add({.bdev_name = bdev, .nsid = nsid}, [answer](auto added) {
      *answer = added.ok() ? static_cast<int>(*added) : -added.error();
    });
    return answer;
  }
  int Add(const std::string& bdev, uint32_t nsid) {
    auto answer = BeginAdd(bdev, nsid);
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
};

TEST_F(NamespaceNumbersTest, AnNsidIsTakenUntilTheLastIoHasEnded) {
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

TEST_F(NamespaceNumbersTest, RemovingTheFirstDiskLeavesTheNextNamespace) {
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

TEST_F(NamespaceNumbersTest, DataThatComeLateDoNotReachTheNextDisk) {
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

TEST_F(NamespaceNumbersTest, AnNsidIsFreeWhenTheHostHasReadTheLog) {
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

TEST_F(NamespaceNumbersTest, EveryHostHasToKnow) {
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

TEST_F(NamespaceNumbersTest, OtherNsidsAreGivenMeanwhile) {
  Remove(1);
  EXPECT_EQ(Add("second", 0), 2);
}

TEST_F(NamespaceNumbersTest, TheSameDiskGetsItsNsidBackAtOnce) {
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

class ImpatientNamespaceNumbersTest : public NamespaceNumbersTest {
 protected:
  ImpatientNamespaceNumbersTest() : NamespaceNumbersTest(50) {}
};

TEST_F(ImpatientNamespaceNumbersTest, AHostThatNeverAsksIsWaitedForSoLong) {
  Remove(1);
  auto added = BeginAdd("second", 1);
  RunPosted();
  EXPECT_FALSE(added->has_value());
  EXPECT_TRUE(RunUntil([&] { return added->has_value(); }));
  EXPECT_EQ(*added, 1);
}

}  // namespace
}  // namespace sma::target::nvmf
