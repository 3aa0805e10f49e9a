// SPDX-License-Identifier: Apache-2.0

#include <linux/vfio.h>
#include <sys/mman.h>

#include <filesystem>
#include <fstream>

#include "storage_target/nvmf/vfio_user/testing/function_fixture.h"

namespace sma::storage_target::nvmf::vfio_user {
namespace {

using harness::GuestBuffer;
using harness::NvmeQueue;
using nvme::IoOpcode;
using nvme::Status;

class DoorbellTest : public FunctionTest {
 protected:
  void SetUp() override {
    FunctionTest::SetUp();
    ASSERT_TRUE(driver.Enable());
  }
};

TEST_F(DoorbellTest, ShadowDoorbellsSaveMessages) {
  ASSERT_TRUE(driver.UseShadowDoorbells());
  NvmeQueue shadowed(ram, 2, 64, 64);
  ASSERT_TRUE(driver.Create(shadowed));
  GuestBuffer in = ram.Allocate(kPage, kPage);
  const uint64_t before = driver.doorbell_messages();
  constexpr uint32_t kCount = 2000;
  for (uint32_t i = 0; i < kCount; ++i)
    ASSERT_EQ(driver.Run(shadowed, OverPages(IoOpcode::kRead, i, in)), Status::kSuccess) << i;
  // There are two doorbells per command. Tail doorbells need a message whenever the function
  // sleeps, which happens when this process is delayed; head doorbells only when the ring wraps.
  EXPECT_LT(driver.doorbell_messages() - before, kCount + kCount / 10);
}

TEST_F(DoorbellTest, ShadowDoorbellWakesAnIdleFunction) {
  ASSERT_TRUE(driver.UseShadowDoorbells());
  NvmeQueue shadowed(ram, 2, 64, 64);
  ASSERT_TRUE(driver.Create(shadowed));
  GuestBuffer in = ram.Allocate(kPage, kPage);
  for (uint32_t i = 0; i < 5; ++i) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (driver.event_index(4) != shadowed.tail() && std::chrono::steady_clock::now() < until) {
    }
    ASSERT_EQ(driver.event_index(4), shadowed.tail());
    const uint64_t before = driver.doorbell_messages();
    ASSERT_EQ(driver.Run(shadowed, OverPages(IoOpcode::kRead, i, in)), Status::kSuccess);
    EXPECT_GT(driver.doorbell_messages(), before);
  }
}

// Returns the CPU time of the reactor's thread, which is found by its name, in nanoseconds.
uint64_t IoThreadCpuNs() {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::ifstream(task.path() / "comm") >> name;
    uint64_t cpu_ns = 0;
    if (name == "io") std::ifstream(task.path() / "schedstat") >> cpu_ns;
    if (cpu_ns != 0) return cpu_ns;
  }
  ADD_FAILURE() << "no thread";
  return 0;
}

TEST_F(DoorbellTest, IdleControllerUsesNoCpuTime) {
  ASSERT_TRUE(driver.UseShadowDoorbells());
  NvmeQueue shadowed(ram, 2, 64, 64);
  ASSERT_TRUE(driver.Create(shadowed));
  GuestBuffer in = ram.Allocate(kPage, kPage);
  ASSERT_EQ(driver.Run(shadowed, OverPages(IoOpcode::kRead, 0, in)), Status::kSuccess);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (driver.event_index(4) != shadowed.tail() && std::chrono::steady_clock::now() < until) {
  }
  auto never = MakeEventFd();
  constexpr std::chrono::milliseconds kPeriod{400};
  const uint64_t before = IoThreadCpuNs();
  EXPECT_FALSE(harness::WaitEvent(never.get(), kPeriod));
  EXPECT_LT(IoThreadCpuNs() - before, 4'000'000u);  // one percent
}

struct SparseRegion {
  storage_target::vfio_user::RegionInfo info;
  storage_target::vfio_user::SparseMmap sparse;
};

TEST_F(DoorbellTest, AreNotMappableByDefault) {
  storage_target::vfio_user::RegionInfo request;
  request.argsz = sizeof(SparseRegion);
  auto reply = client.AskWith(storage_target::vfio_user::Command::kDeviceGetRegionInfo, request);
  ASSERT_TRUE(reply);
  EXPECT_TRUE(reply->fds.empty());
  const auto info = reply->As<storage_target::vfio_user::RegionInfo>();
  EXPECT_EQ(info.flags, VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE);
}

class MappedDoorbellTest : public FunctionTest {
 protected:
  static Options MappableOptions() {
    Options options;
    options.mappable_doorbells = true;
    return options;
  }
  MappedDoorbellTest() : FunctionTest(MappableOptions()) {}

  void SetUp() override {
    FunctionTest::SetUp();
    storage_target::vfio_user::RegionInfo request;
    request.argsz = sizeof(SparseRegion);
    auto reply = client.AskWith(storage_target::vfio_user::Command::kDeviceGetRegionInfo, request);
    ASSERT_TRUE(reply);
    region_ = reply->As<SparseRegion>();
    ASSERT_EQ(reply->fds.size(), 1u);
    fd_ = std::move(reply->fds.front());
    void* page = ::mmap(nullptr, region_.sparse.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                        fd_.get(), static_cast<off_t>(region_.sparse.offset_bytes));
    ASSERT_NE(page, MAP_FAILED);
    page_ = static_cast<uint32_t*>(page);
  }
  void TearDown() override { ::munmap(page_, region_.sparse.size_bytes); }

  SparseRegion region_;
  base::UniqueFd fd_;
  uint32_t* page_ = nullptr;
};

TEST_F(MappedDoorbellTest, IoNeedsNoMessages) {
  EXPECT_EQ(region_.info.cap_offset, sizeof(storage_target::vfio_user::RegionInfo));
  EXPECT_EQ(region_.sparse.offset_bytes, nvme::kDoorbellOffset);
  EXPECT_EQ(region_.sparse.size_bytes, nvme::kMinPageSize);
  driver.UseMappedDoorbells(page_);
  ASSERT_TRUE(driver.Enable());
  NvmeQueue queue(ram, 1, 64, 64);
  ASSERT_TRUE(driver.Create(queue));
  GuestBuffer out = ram.Allocate(kPage, kPage);
  GuestBuffer in = ram.Allocate(kPage, kPage);
  for (uint32_t i = 0; i < 200; ++i) {
    Fill(out.bytes, i);
    ASSERT_EQ(driver.Run(queue, OverPages(IoOpcode::kWrite, i, out)), Status::kSuccess);
    ASSERT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, i, in)), Status::kSuccess);
    ASSERT_TRUE(Holds(in.bytes, i));
  }
  EXPECT_EQ(driver.doorbell_messages(), 0u);
}

TEST_F(MappedDoorbellTest, PageCannotBeTruncated) {
  EXPECT_NE(::ftruncate(fd_.get(), 0), 0);
  driver.UseMappedDoorbells(page_);
  ASSERT_TRUE(driver.Enable());
  page_[0] = UINT32_MAX;
  EXPECT_TRUE(driver.WaitStatus(nvme::kCstsFatal, nvme::kCstsFatal));
}

}  // namespace
}  // namespace sma::storage_target::nvmf::vfio_user
