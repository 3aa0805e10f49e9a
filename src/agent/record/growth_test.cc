// SPDX-License-Identifier: Apache-2.0

// Tests that the record's memory and file do not grow with the number of objects that were written
// and removed.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <filesystem>

#include "agent/record/record.h"
#include "agent/record/sqlite_store.h"

namespace sma::record {
namespace {

constexpr int kCalls = 100'000;
// Each object is written as an intent, written as complete, and removed.
constexpr int kCallsOfAnObject = 4;
constexpr uintmax_t kMaxFileBytes = 6 * 1024 * 1024;  // mostly the write-ahead log of 1,000 pages
constexpr size_t kMaxHeapGrowth = 64 * 1024;

uintmax_t BytesIn(const std::string& folder) {
  uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) bytes += entry.file_size();
  return bytes;
}

// Writes and removes a device with a volume that has limits.
void LifeOf(int number, Record& record) {
  Device device;
  device.handle = fmt::format("nvmf-tcp:nqn.2016-06.io.spdk:device{}", number);
  device.manager = "nvmf_tcp";
  device.params.mutable_nvmf_tcp()->set_subnqn(device.handle);
  Volume volume;
  volume.id = *base::Uuid::Parse(fmt::format("{:08d}-1111-4222-8333-444444444444", number));
  volume.device_handle = device.handle;
  Change intended, done, limited, removed;
  intended.put_devices = {device};
  intended.put_volumes = {volume};
  device.state = DeviceState::kReady;
  volume.state = VolumeState::kAttached;
  done.put_devices = {device};
  done.put_volumes = {volume};
  limited.put_limits = {{.volume_id = volume.id, .limits = {}}};
  removed.remove_devices = {device.handle};
  removed.remove_volumes = {volume.id};
  removed.remove_limits = {volume.id};
  for (const Change& change : {intended, done, limited, removed}) {
    ASSERT_TRUE(record.Write(change, Durability::kProcess).ok());
  }
}

TEST(GrowthTest, NothingGrowsInAHundredThousandCalls) {
  std::string folder = testing::TempDir() + "/sma-growth-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  auto store = SqliteStore::Open(folder);
  ASSERT_TRUE(store.ok()) << store.status();
  auto record = Record::Open(*std::move(store));
  ASSERT_TRUE(record.ok()) << record.status();
  constexpr int kObjects = kCalls / kCallsOfAnObject;
  size_t heap = 0;
  for (int i = 0; i < kObjects; ++i) {
    LifeOf(i, **record);
    if (i == kObjects / 10) heap = mallinfo2().uordblks;  // once all one-time allocations are made
  }
  const size_t heap_after = mallinfo2().uordblks;
  EXPECT_LE(BytesIn(folder), kMaxFileBytes);
  EXPECT_EQ((*record)->device_count() + (*record)->volume_count(), 0u);
  std::filesystem::remove_all(folder);
  if (heap == 0) GTEST_SKIP() << "this build does not tell the size of its heap";
  EXPECT_LT(heap_after, heap + kMaxHeapGrowth);
}

}  // namespace
}  // namespace sma::record
