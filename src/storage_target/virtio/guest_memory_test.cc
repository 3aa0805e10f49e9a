// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/guest_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "harness/vhost_user/guest_ram.h"
#include "storage_target/bdev/testing/test_bdev.h"

namespace sma::storage_target::virtio {
namespace {

using harness::GuestRam;

constexpr size_t kPage = 4096;

MemoryRegion Region(const GuestRam& ram) {
  auto mapping = SharedMapping::Map(ram.fd(), 0, ram.size_bytes());
  EXPECT_TRUE(mapping.ok());
  return {ram.guest_address(), ram.size_bytes(), ram.user_address(), *std::move(mapping)};
}

TEST(SharedMappingTest, MapsFromAnyOffset) {
  GuestRam ram(4 * kPage, 0, 0);
  std::memcpy(ram.At(kPage + 100), "here", 4);
  auto mapping = SharedMapping::Map(ram.fd(), kPage + 100, kPage);
  ASSERT_TRUE(mapping.ok());
  EXPECT_EQ((*mapping)->bytes().size(), kPage);
  EXPECT_EQ(std::memcmp((*mapping)->bytes().data(), "here", 4), 0);
}

TEST(SharedMappingTest, RefusesRangesBeyondTheFile) {
  GuestRam ram(4 * kPage, 0, 0);
  EXPECT_EQ(SharedMapping::Map(ram.fd(), 0, 4 * kPage + 1).error(), EINVAL);
  EXPECT_EQ(SharedMapping::Map(ram.fd(), 4 * kPage, 1).error(), EINVAL);
  EXPECT_EQ(SharedMapping::Map(ram.fd(), 0, 0).error(), EINVAL);
  EXPECT_EQ(SharedMapping::Map(ram.fd(), UINT64_MAX - 10, 100).error(), EINVAL);
  EXPECT_EQ(SharedMapping::Map(ram.fd(), 100, UINT64_MAX - 10).error(), EINVAL);
  EXPECT_EQ(SharedMapping::Map(-1, 0, kPage).error(), EBADF);
}

// A TCP socket can be mapped for reading.
// The thread that releases a mapping does not wait until all of its pages are unmapped.
TEST(SharedMappingTest, IsUnmappedByAnotherThread) {
  constexpr size_t kBytes = 256 << 20;
  const base::UniqueFd file(::memfd_create("large", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), kBytes), 0);
  auto mapping = SharedMapping::Map(file.get(), 0, kBytes);
  ASSERT_TRUE(mapping.ok());
  const std::span<std::byte> bytes = (*mapping)->bytes();
  for (size_t at = 0; at < kBytes; at += kPage) bytes[at] = std::byte{1};
  const uint64_t start_ns = bdev::ThreadCpuNs();
  mapping->reset();
  EXPECT_LT(bdev::ThreadCpuNs() - start_ns, 2'000'000U);
  const auto is_mapped = [&] {
    std::vector<unsigned char> resident(1);
    return ::mincore(bytes.data(), kPage, resident.data()) == 0 ||
           ::mincore(bytes.last(kPage).data(), kPage, resident.data()) == 0;
  };
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (is_mapped() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  EXPECT_FALSE(is_mapped());
}

TEST(SharedMappingTest, RefusesSockets) {
  const base::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  constexpr auto kReadOnly = SharedMapping::Access::kReadOnly;
  EXPECT_EQ(SharedMapping::Map(socket.get(), 0, kPage, kReadOnly).error(), EINVAL);
}

TEST(SharedMappingTest, SurvivesATruncatedFile) {
  GuestRam ram(4 * kPage, 0, 0);
  GuestRam other(kPage, 0, 0);
  auto mapping = SharedMapping::Map(ram.fd(), 0, 4 * kPage);
  auto intact = SharedMapping::Map(other.fd(), 0, kPage);
  ASSERT_TRUE(mapping.ok() && intact.ok());
  const uint32_t before = BusErrorGuard::broken_count();
  ASSERT_EQ(::ftruncate(ram.fd(), kPage), 0);
  (*mapping)->bytes()[2 * kPage] = std::byte{7};
  EXPECT_FALSE((*mapping)->intact());
  EXPECT_TRUE((*intact)->intact());
  EXPECT_EQ(BusErrorGuard::broken_count(), before + 1);
  EXPECT_EQ((*mapping)->bytes()[2 * kPage], std::byte{7});
}

// The guards are not needed here, because nothing accesses the memory.
TEST(GuardShareTest, OneDeviceLeavesGuardsForOthers) {
  std::vector<std::unique_ptr<BusErrorGuard>> guards;
  const auto take_all = [&] {
    auto share = std::make_shared<GuardShare>();
    size_t count = 0;
    while (true) {
      auto guard = std::make_unique<BusErrorGuard>(nullptr, 0, share);
      if (!guard->armed()) return count;
      guards.push_back(std::move(guard));
      ++count;
    }
  };
  const size_t before = BusErrorGuard::searched_slots();
  const size_t first = take_all();
  EXPECT_EQ(first, 1024U);  // as many regions as a vfio-user client may map
  for (int i = 0; i < 99; ++i) EXPECT_GE(take_all(), 64U) << i;
  guards.clear();
  EXPECT_EQ(BusErrorGuard::searched_slots(), before);
  EXPECT_EQ(take_all(), first);
}

TEST(GuestMemoryTest, TranslatesOnlyWithinARegion) {
  GuestRam low(2 * kPage, 0, 0x7000'0000'0000);
  GuestRam high(2 * kPage, 16 * kPage, 0x7100'0000'0000);
  GuestMemory memory;
  ASSERT_EQ(memory.Add(Region(high)), 0);
  ASSERT_EQ(memory.Add(Region(low)), 0);
  std::memcpy(low.At(5), "low", 3);
  std::memcpy(high.At(16 * kPage + 5), "high", 4);
  ASSERT_NE(memory.Translate(5, 3), nullptr);
  EXPECT_EQ(std::memcmp(memory.Translate(5, 3), "low", 3), 0);
  EXPECT_EQ(std::memcmp(memory.Translate(16 * kPage + 5, 4), "high", 4), 0);
  EXPECT_EQ(std::memcmp(memory.TranslateUser(0x7100'0000'0005, 4), "high", 4), 0);
  EXPECT_NE(memory.Translate(0, 2 * kPage), nullptr);
  EXPECT_EQ(memory.Translate(0, 2 * kPage + 1), nullptr);
  EXPECT_EQ(memory.Translate(2 * kPage, 1), nullptr);
  EXPECT_EQ(memory.Translate(15 * kPage, 2 * kPage), nullptr);
  EXPECT_EQ(memory.Translate(18 * kPage, 1), nullptr);
  EXPECT_EQ(memory.Translate(UINT64_MAX, 1), nullptr);
  EXPECT_EQ(memory.Translate(16 * kPage, UINT64_MAX), nullptr);
  EXPECT_EQ(memory.TranslateUser(0x7100'0000'0000, 2 * kPage + 1), nullptr);
  EXPECT_EQ(memory.TranslateUser(0x7100'0000'0000, UINT64_MAX), nullptr);
  EXPECT_EQ(memory.TranslateUser(0x6fff'ffff'ffff, 1), nullptr);
}

TEST(GuestMemoryTest, FindsABufferThatSpansRegionsPieceByPiece) {
  GuestRam first(2 * kPage, 0, 0x7000'0000'0000);
  GuestRam second(2 * kPage, 2 * kPage, 0x7100'0000'0000);
  GuestMemory memory;
  ASSERT_EQ(memory.Add(Region(first)), 0);
  ASSERT_EQ(memory.Add(Region(second)), 0);
  EXPECT_EQ(memory.Translate(kPage, 2 * kPage), nullptr);
  EXPECT_EQ(memory.Find(kPage, 2 * kPage).size(), kPage);
  EXPECT_EQ(memory.Find(2 * kPage, kPage).size(), kPage);
  EXPECT_TRUE(memory.Find(4 * kPage, 1).empty());
}

TEST(GuestMemoryTest, RefusesOverlapsAndOverflows) {
  GuestRam ram(2 * kPage, 4 * kPage, 0x7000'0000'0000);
  GuestRam guest_overlap(2 * kPage, 5 * kPage, 0x7200'0000'0000);
  GuestRam user_overlap(2 * kPage, 0, 0x7000'0000'0000 + kPage);
  GuestRam guest_overflow(2 * kPage, UINT64_MAX - kPage, 0x7300'0000'0000);
  GuestRam user_overflow(2 * kPage, 0, UINT64_MAX - kPage);
  GuestMemory memory;
  ASSERT_EQ(memory.Add(Region(ram)), 0);
  EXPECT_EQ(memory.Add(Region(guest_overlap)), EINVAL);
  EXPECT_EQ(memory.Add(Region(user_overlap)), EINVAL);
  EXPECT_EQ(memory.Add(Region(guest_overflow)), EINVAL);
  EXPECT_EQ(memory.Add(Region(user_overflow)), EINVAL);
  EXPECT_EQ(memory.regions().size(), 1u);
  EXPECT_EQ(memory.Remove(4 * kPage, 0x7000'0000'0000, kPage), ENOENT);
  EXPECT_EQ(memory.Remove(4 * kPage, 0x7000'0000'0000, 2 * kPage), 0);
  EXPECT_EQ(memory.Translate(4 * kPage, 1), nullptr);
}

}  // namespace
}  // namespace sma::storage_target::virtio
