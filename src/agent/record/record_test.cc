// SPDX-License-Identifier: Apache-2.0

#include "agent/record/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "agent/record/testing/memory_store.h"

namespace sma::record {
namespace {

using testing::ElementsAre;

Device MakeDevice(const std::string& handle) {
  Device device;
  device.handle = handle;
  device.manager = "nvmf_tcp";
  return device;
}

base::Uuid Id(uint8_t last) {
  std::array<uint8_t, base::Uuid::kSize> bytes{};
  bytes[15] = last;
  return base::Uuid(bytes);
}

Volume MakeVolume(uint8_t id, const std::string& handle) {
  Volume volume;
  volume.id = Id(id);
  volume.device_handle = handle;
  return volume;
}

Change PutDevice(const std::string& handle) {
  Change change;
  change.put_devices.push_back(MakeDevice(handle));
  return change;
}

Change PutVolume(uint8_t id, const std::string& handle) {
  Change change;
  change.put_volumes.push_back(MakeVolume(id, handle));
  return change;
}

std::vector<base::Uuid> IdsOf(const std::vector<Volume>& volumes) {
  std::vector<base::Uuid> ids;
  for (const Volume& volume : volumes) ids.push_back(volume.id);
  return ids;
}

class RecordTest : public testing::Test {
 protected:
  void Open() {
    auto record = Record::Open(std::make_unique<MemoryStore>(disk_));
    ASSERT_TRUE(record.ok());
    record_ = *std::move(record);
  }
  void SetUp() override { Open(); }
  void Write(Change change) {
    ASSERT_TRUE(record_->Write(std::move(change), Durability::kProcess).ok());
  }

  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
  std::unique_ptr<Record> record_;
};

TEST_F(RecordTest, KeepsRowsAcrossOpens) {
  Write(PutDevice("a"));
  Write(PutVolume(1, "a"));
  QosLimit limits;
  limits.set_rw_iops(3);
  Change change;
  change.put_limits.push_back({Id(1), limits});
  Write(change);
  Open();
  EXPECT_EQ(record_->FindDevice("a")->manager, "nvmf_tcp");
  EXPECT_EQ(record_->FindVolume(Id(1))->device_handle, "a");
  EXPECT_EQ(record_->FindLimits(Id(1))->rw_iops(), 3u);
  EXPECT_FALSE(record_->FindDevice("b"));
  EXPECT_FALSE(record_->FindVolume(Id(2)));
  EXPECT_FALSE(record_->FindLimits(Id(2)));
}

TEST_F(RecordTest, KnowsTheVolumesOfEachDevice) {
  Write(PutDevice("a"));
  Write(PutDevice("b"));
  Write(PutVolume(2, "a"));
  Write(PutVolume(1, "a"));
  EXPECT_THAT(IdsOf(record_->VolumesOf("a")), ElementsAre(Id(1), Id(2)));
  Write(PutVolume(2, "b"));
  EXPECT_THAT(IdsOf(record_->VolumesOf("a")), ElementsAre(Id(1)));
  EXPECT_THAT(IdsOf(record_->VolumesOf("b")), ElementsAre(Id(2)));
  Change gone;
  gone.remove_volumes.push_back(Id(2));
  gone.remove_volumes.push_back(Id(9));
  gone.remove_devices.push_back("b");
  Write(gone);
  EXPECT_TRUE(record_->VolumesOf("b").empty());
  EXPECT_EQ(record_->device_count(), 1u);
  EXPECT_EQ(record_->volume_count(), 1u);
}

TEST_F(RecordTest, ListsInPages) {
  for (const char* handle : {"c", "a", "b"}) Write(PutDevice(handle));
  for (uint8_t id : {3, 1, 2}) Write(PutVolume(id, "a"));
  EXPECT_EQ(record_->Devices("", 2).size(), 2u);
  EXPECT_EQ(record_->Devices("b").front().handle, "c");
  EXPECT_THAT(IdsOf(record_->Volumes(std::nullopt, 2)), ElementsAre(Id(1), Id(2)));
  EXPECT_THAT(IdsOf(record_->Volumes(Id(2))), ElementsAre(Id(3)));
}

TEST_F(RecordTest, ReportsWhatChangedSince) {
  Write(PutDevice("a"));
  Write(PutDevice("b"));
  uint64_t before = record_->revision();
  EXPECT_FALSE(record_->ChangedSince("a", before));
  Write(PutVolume(1, "a"));
  EXPECT_TRUE(record_->ChangedSince("a", before));
  EXPECT_FALSE(record_->ChangedSince("b", before));
  before = record_->revision();
  Change detach;
  detach.remove_volumes.push_back(Id(1));
  Write(detach);
  EXPECT_TRUE(record_->ChangedSince("a", before));
  EXPECT_TRUE(record_->ChangedSince("unknown", before));
}

TEST_F(RecordTest, FailedWriteIsNotVisible) {
  disk_->fault = [](Durability) { return absl::ResourceExhaustedError("full"); };
  EXPECT_EQ(record_->Write(PutDevice("a"), Durability::kHost).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(record_->FindDevice("a"));
  disk_->fault = nullptr;
  Write(PutDevice("a"));
  EXPECT_TRUE(record_->FindDevice("a"));
}

TEST_F(RecordTest, ObserverSeesChangesInOrder) {
  std::vector<std::string> seen;
  record_->SetObserver(
      [&](const Change& change) { seen.push_back(change.put_devices.front().handle); });
  Write(PutDevice("a"));
  Write(PutDevice("b"));
  EXPECT_THAT(seen, ElementsAre("a", "b"));
}

// While one commit is in progress, the changes of all other callers are collected for the next one.
TEST_F(RecordTest, WritesAreCommittedTogether) {
  constexpr int kCallers = 32;
  std::atomic<int> started = 0;
  std::atomic<bool> first = true;
  std::atomic<int> host_commits = 0;
  disk_->fault = [&](Durability durability) {
    if (durability == Durability::kHost) ++host_commits;
    // The first commit lasts until all other callers have at least begun.
    if (first.exchange(false)) {
      while (started < kCallers) std::this_thread::yield();
    }
    return absl::OkStatus();
  };
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&, i] {
      ++started;
      EXPECT_TRUE(record_->Write(PutDevice(std::to_string(i)), Durability::kHost).ok());
      EXPECT_TRUE(record_->FindDevice(std::to_string(i)));
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(record_->device_count(), static_cast<size_t>(kCallers));
  EXPECT_LT(disk_->commits, static_cast<uint64_t>(kCallers));
  EXPECT_EQ(static_cast<uint64_t>(host_commits), disk_->commits);
}

TEST_F(RecordTest, UpdateSeesAllWritesBeforeIt) {
  Write(PutDevice("a"));
  std::atomic<bool> removing = false, queued = false;
  disk_->fault = [&](Durability) {
    removing = true;
    while (!queued) std::this_thread::yield();
    return absl::OkStatus();
  };
  // The removal is in progress while Update is called.
  std::thread remover([&] {
    Change change;
    change.remove_devices = {"a"};
    EXPECT_TRUE(record_->Write(std::move(change), Durability::kProcess).ok());
  });
  while (!removing) std::this_thread::yield();
  bool was_there = true;
  std::thread updater([&] {
    queued = true;
    EXPECT_TRUE(record_
                    ->Update(
                        [&] {
                          was_there = record_->FindDevice("a").has_value();
                          return was_there ? PutDevice("a") : Change();
                        },
                        Durability::kProcess)
                    .ok());
  });
  remover.join();
  updater.join();
  EXPECT_FALSE(was_there);
  EXPECT_FALSE(record_->FindDevice("a"));
  EXPECT_EQ(disk_->commits, 2u) << "an update that changes nothing is not written";
}

// Each update increments a value. No update may be lost, whatever is written at the same time.
TEST_F(RecordTest, UpdatesAreNotLost) {
  Write(PutDevice("a"));
  auto count = [&] { return record_->FindDevice("a")->mark.size(); };
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 8; ++caller) {
    callers.emplace_back([&, caller] {
      for (int i = 0; i < 50; ++i) {
        auto add = [&] {
          Change change = PutDevice("a");
          change.put_devices.front().mark = std::string(count() + 1, 'x');
          return change;
        };
        EXPECT_TRUE(record_->Update(add, Durability::kProcess).ok());
        EXPECT_TRUE(
            record_->Write(PutDevice("b" + std::to_string(caller)), Durability::kProcess).ok());
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(count(), 400u);
}

TEST_F(RecordTest, AFailedUpdateIsNotVisible) {
  disk_->fault = [](Durability) { return absl::ResourceExhaustedError("full"); };
  EXPECT_EQ(record_->Update([] { return PutDevice("a"); }, Durability::kHost).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(record_->FindDevice("a"));
}

}  // namespace
}  // namespace sma::record
