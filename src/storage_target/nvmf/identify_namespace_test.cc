// SPDX-License-Identifier: Apache-2.0

// Tests that Identify Namespace reports the properties of the bdev.

#include <gtest/gtest.h>

#include "storage_target/nvme/identify_namespace.h"
#include "storage_target/nvmf/testing/io_fixture.h"

namespace sma::storage_target::nvmf {
namespace {

using nvme::IoOpcode;
using nvme::Status;

class IdentifyNamespaceTest : public IoFixture {
 protected:
  /// Adds a bdev with these properties as namespace 2.
  void AddNamespace(const bdev::Bdev::Info& info) {
    other_.native_types = {bdev::IoType::kRead, bdev::IoType::kWrite, bdev::IoType::kWriteZeroes,
                           bdev::IoType::kUnmap};
    AddDisk("other", other_, info);
    Await([&](auto done) {
      subsystem_->namespaces().Add({.bdev_name = "other"}, [done](auto nsid) {
        EXPECT_EQ(*nsid, 2u);
        done();
      });
    });
  }
  template <typename T>
  T Identify(nvme::Cns cns) {
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kIdentify);
    command.nsid = 2;
    command.cdw10 = static_cast<uint32_t>(cns);
    return admin_->Run(command, 4096)->template DataAs<T>();
  }
  nvme::Completion Execute(IoOpcode opcode, std::span<const std::byte> data = {},
                           uint32_t cdw11 = 0, uint32_t cdw12 = 0) {
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(opcode);
    command.nsid = 2;
    command.cdw11 = cdw11;
    command.cdw12 = cdw12;
    return io_->Run(command, 512, data)->completion;
  }

  bdev::TestModule other_;
};

TEST_F(IdentifyNamespaceTest, AReadOnlyDiskIsWriteProtected) {
  AddNamespace({.read_only = true});
  EXPECT_EQ(Identify<nvme::IdentifyNamespace>(nvme::Cns::kNamespace).nsattr,
            nvme::kNsattrWriteProtected);
  EXPECT_EQ(Identify<nvme::IndependentIdentifyNamespace>(nvme::Cns::kIndependentNamespace).nsattr,
            nvme::kNsattrWriteProtected);
  const nvme::DsmRange range{.block_count = 1, .lba = 1};
  EXPECT_EQ(nvme::StatusOf(Execute(IoOpcode::kWrite).status), Status::kNamespaceWriteProtected);
  EXPECT_EQ(nvme::StatusOf(Execute(IoOpcode::kWriteZeroes).status),
            Status::kNamespaceWriteProtected);
  EXPECT_EQ(nvme::StatusOf(Execute(IoOpcode::kDatasetManagement,
                                   std::as_bytes(std::span(&range, 1)), nvme::kDsmDeallocate)
                               .status),
            Status::kNamespaceWriteProtected);
  EXPECT_TRUE(other_.seen_types.empty());
  EXPECT_EQ(nvme::StatusOf(Execute(IoOpcode::kRead).status), Status::kSuccess);
}

TEST_F(IdentifyNamespaceTest, AWritableDiskIsNotWriteProtected) {
  AddNamespace({});
  EXPECT_EQ(Identify<nvme::IdentifyNamespace>(nvme::Cns::kNamespace).nsattr, 0);
  EXPECT_EQ(nvme::StatusOf(Execute(IoOpcode::kWrite).status), Status::kSuccess);
}

TEST_F(IdentifyNamespaceTest, ReportsTheDisksDeallocation) {
  AddNamespace({.unmap_reads_zero = true});
  EXPECT_EQ(Identify<nvme::IdentifyNamespace>(nvme::Cns::kNamespace).dlfeat,
            nvme::kDlfeatReadsZeroes);
}

TEST_F(IdentifyNamespaceTest, WriteZeroesMayDeallocate) {
  AddNamespace({.write_zeroes_deallocates = true});
  EXPECT_EQ(Identify<nvme::IdentifyNamespace>(nvme::Cns::kNamespace).dlfeat,
            nvme::kDlfeatWriteZeroesDeallocates);
  other_.complete_at_once = false;
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(IoOpcode::kWriteZeroes);
  command.nsid = 2;
  command.cdw12 = nvme::kDeac;
  auto zeroes = io_->Begin(command);
  ASSERT_EQ(other_.pending.size(), 1u);
  EXPECT_TRUE(other_.pending[0]->deallocate);
  static_cast<bdev::TestChannel&>(*other_.pending[0]->channel).CompletePending(bdev::IoStatus::kOk);
  EXPECT_EQ(zeroes->status(), Status::kSuccess);
}

}  // namespace
}  // namespace sma::storage_target::nvmf
