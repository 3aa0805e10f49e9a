// SPDX-License-Identifier: Apache-2.0

// Tests that records of earlier agents can be read. fixtures/record-vN.db was written by an agent
// whose schema had version N, and contains an nvmf_tcp device with two volumes, one of them with
// limits, and a vhost_blk device.

#include <gtest/gtest.h>

#include <filesystem>

#include "agent/record/record.h"
#include "agent/record/schema.h"
#include "agent/record/sqlite_store.h"

namespace sma::record {
namespace {

constexpr char kNvmf[] = "nvmf-tcp:nqn.2016-06.io.spdk:kept";
constexpr char kVhost[] = "virtio_blk:sma-3";

base::Uuid VolumeNumber(int number) {
  return *base::Uuid::Parse("5f3c1a52-8a3d-4d0e-9b58-6f2f4f1c7a0" + std::to_string(number));
}

class MigrationTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/sma-migration-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    const std::filesystem::path fixtures =
        std::filesystem::path(__FILE__).parent_path() / "fixtures";
    std::filesystem::copy_file(fixtures / ("record-v" + std::to_string(GetParam()) + ".db"),
                               folder_ + "/record.db");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Record> Open() {
    auto store = SqliteStore::Open(folder_);
    EXPECT_TRUE(store.ok()) << store.status();
    if (!store.ok()) return nullptr;
    auto record = Record::Open(*std::move(store));
    EXPECT_TRUE(record.ok()) << record.status();
    return record.ok() ? *std::move(record) : nullptr;
  }

  std::string folder_;
};

TEST_P(MigrationTest, AnEarlierRecordIsReadAndWritten) {
  ASSERT_LT(static_cast<size_t>(GetParam()), Migrations().size()) << "not an earlier one";
  std::unique_ptr<Record> record = Open();
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(record->device_count(), 2u);
  std::optional<Device> device = record->FindDevice(kNvmf);
  ASSERT_TRUE(device.has_value());
  EXPECT_EQ(device->state, DeviceState::kReady);
  EXPECT_EQ(device->params.nvmf_tcp().trsvcid(), "14420");
  EXPECT_EQ(device->mark, "");
  EXPECT_EQ(device->place, "");
  EXPECT_EQ(record->VolumesOf(kNvmf).size(), 2u);
  EXPECT_EQ(record->VolumesOf(kVhost).size(), 1u);
  EXPECT_EQ(record->FindVolume(VolumeNumber(2))->attachment, "2");
  EXPECT_EQ(record->FindLimits(VolumeNumber(2))->rw_iops(), 5u);
  EXPECT_TRUE(record->LimitsDetachedBefore(Time::max(), 0).empty()) << "the volume is attached";

  Change change;
  change.put_devices = {*device};
  change.put_devices.front().mark = "S1";
  change.remove_volumes = {VolumeNumber(1)};
  ASSERT_TRUE(record->Write(std::move(change), Durability::kHost).ok());
  record.reset();
  record = Open();
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(record->FindDevice(kNvmf)->mark, "S1");
  EXPECT_EQ(record->VolumesOf(kNvmf).size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Versions, MigrationTest, testing::Values(2, 4));

}  // namespace
}  // namespace sma::record
