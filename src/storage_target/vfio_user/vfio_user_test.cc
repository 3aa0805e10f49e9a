// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/testing/lowered_descriptor_limit.h"
#include "storage_target/vfio_user/dma_map.h"
#include "storage_target/vfio_user/interrupts.h"
#include "storage_target/vfio_user/pci_config.h"
#include "storage_target/vfio_user/protocol.h"
#include "storage_target/vfio_user/version.h"

namespace sma::storage_target::vfio_user {
namespace {

std::optional<ClientCapabilities> Parse(const std::string& json, Version version = {}) {
  std::string payload(reinterpret_cast<const char*>(&version), sizeof version);
  payload += json;
  return ParseVersion(std::as_bytes(std::span(payload)));
}

TEST(VersionTest, CapabilitiesAreOptional) {
  for (const std::string& json : {std::string(), std::string("\0", 1), std::string("{}\0", 3),
                                  std::string("{\"capabilities\":{}}\0", 20)}) {
    auto client = Parse(json);
    ASSERT_TRUE(client) << json;
    EXPECT_EQ(client->max_message_fds, 1u);
    EXPECT_EQ(client->max_transfer_bytes, 1u << 20);
    EXPECT_FALSE(client->write_multiple);
  }
}

TEST(VersionTest, UsesTheLowerMinorVersion) {
  EXPECT_EQ(Parse("", {0, 0})->minor_version, 0);
  EXPECT_EQ(Parse("", {0, 99})->minor_version, kMinorVersion);
  EXPECT_FALSE(Parse("", {1, 0}));
}

TEST(VersionTest, TextEndsInNul) { EXPECT_FALSE(Parse("{}")); }

TEST(VersionTest, ReplyOffersWriteMultipleOnlyIfTheClientDoes) {
  ClientCapabilities client;
  EXPECT_EQ(MakeVersionReply(client).find("write_multiple"), std::string::npos);
  client.write_multiple = true;
  EXPECT_NE(MakeVersionReply(client).find("write_multiple"), std::string::npos);
}

// QEMU refuses larger limits and a minor version above its own, which is 0.
TEST(VersionTest, ReplyIsWithinTheLimitsOfQemu) {
  const std::string reply = MakeVersionReply(*Parse("", {0, 0}));
  Version version;
  std::memcpy(&version, reply.data(), sizeof version);
  EXPECT_EQ(version.minor_number, 0);
  const auto json = nlohmann::json::parse(reply.begin() + sizeof version, reply.end() - 1);
  const auto& capabilities = json.at("capabilities");
  EXPECT_LE(capabilities.at("max_msg_fds"), 16);
  EXPECT_LE(capabilities.at("max_data_xfer_size"), 64 << 20);
  EXPECT_EQ(capabilities.at("pgsizes"), 4096);
}

class DmaMapTest : public testing::Test {
 protected:
  DmaRegion Region(uint64_t address, uint64_t size_bytes, bool writable = true) {
    base::UniqueFd fd(::memfd_create("memory", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size_bytes)), 0);
    auto mapping = virtio::SharedMapping::Map(fd.get(), 0, size_bytes);
    EXPECT_TRUE(mapping.ok());
    return {address, size_bytes, true, writable, *mapping};
  }
  DmaMap map_;
};

TEST_F(DmaMapTest, FindsMemoryWithinARegion) {
  ASSERT_EQ(map_.Add(Region(0x10000, 0x2000)), 0);
  ASSERT_EQ(map_.Add(Region(0x12000, 0x1000)), 0);
  EXPECT_EQ(map_.Find(0x11000, 0x4000, DmaAccessMode::kRead).size(), 0x1000u);
  EXPECT_EQ(map_.Find(0x12fff, 10, DmaAccessMode::kWrite).size(), 1u);
  EXPECT_TRUE(map_.Find(0x13000, 1, DmaAccessMode::kRead).empty());
  EXPECT_TRUE(map_.Find(0xffff, 1, DmaAccessMode::kRead).empty());
  EXPECT_TRUE(map_.Find(UINT64_MAX, 1, DmaAccessMode::kRead).empty());
  EXPECT_NE(map_.Translate(0x11000, 0x1000, DmaAccessMode::kRead), nullptr);
  EXPECT_EQ(map_.Translate(0x11000, 0x1001, DmaAccessMode::kRead), nullptr);
}

TEST_F(DmaMapTest, RegionsDoNotOverlap) {
  ASSERT_EQ(map_.Add(Region(0x10000, 0x2000)), 0);
  EXPECT_EQ(map_.Add(Region(0x10000, 0x2000)), EEXIST);
  EXPECT_EQ(map_.Add(Region(0x11fff, 0x1000)), EEXIST);
  EXPECT_EQ(map_.Add(Region(0xf001, 0x1000)), EEXIST);
  EXPECT_EQ(map_.Add(Region(0xf000, 0x1000)), 0);
  EXPECT_EQ(map_.Add({UINT64_MAX - 10, 20, true, true, nullptr}), EINVAL);
  EXPECT_EQ(map_.Remove(0x10000, 0x1000), ENOENT);
  EXPECT_EQ(map_.Remove(0x10000, 0x2000), 0);
  EXPECT_TRUE(map_.Find(0x10000, 1, DmaAccessMode::kRead).empty());
}

TEST_F(DmaMapTest, ChecksAccessRights) {
  ASSERT_EQ(map_.Add(Region(0x10000, 0x1000, false)), 0);
  EXPECT_FALSE(map_.Find(0x10000, 1, DmaAccessMode::kRead).empty());
  EXPECT_TRUE(map_.Find(0x10000, 1, DmaAccessMode::kWrite).empty());
}

class InterruptsTest : public testing::Test {
 protected:
  void Assign(uint32_t index, uint32_t start, int fd) {
    IrqSet set;
    set.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    set.index = index;
    set.start = start;
    set.count = 1;
    virtio::ReceivedFd fds[] = {virtio::ReceivedFd(::dup(fd))};
    ASSERT_EQ(interrupts_.Set(set, {}, fds), 0);
  }
  int ApplyAction(uint32_t index, uint32_t action, uint32_t count = 1, uint32_t start = 0) {
    IrqSet set;
    set.flags = VFIO_IRQ_SET_DATA_NONE | action;
    set.index = index;
    set.start = start;
    set.count = count;
    return interrupts_.Set(set, {}, {});
  }
  uint64_t Signals() {
    uint64_t count = 0;
    return ::read(event_.get(), &count, sizeof count) == sizeof count ? count : 0;
  }
  Interrupts interrupts_{4};
  base::UniqueFd event_{::eventfd(0, EFD_NONBLOCK)};
};

TEST_F(InterruptsTest, FunctionMaskDelaysInterrupts) {
  Assign(VFIO_PCI_MSIX_IRQ_INDEX, 0, event_.get());
  EXPECT_TRUE(interrupts_.vectors_in_use());
  interrupts_.MaskAll(true);
  interrupts_.Raise(0);
  EXPECT_TRUE(interrupts_.pending(0));
  EXPECT_EQ(Signals(), 0u);
  interrupts_.MaskAll(false);
  EXPECT_EQ(Signals(), 1u);
  EXPECT_FALSE(interrupts_.pending(0));
}

TEST_F(InterruptsTest, TriggeredByTheClientItself) {
  Assign(VFIO_PCI_MSIX_IRQ_INDEX, 2, event_.get());
  EXPECT_EQ(ApplyAction(VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 1, 2), 0);
  EXPECT_EQ(Signals(), 1u);
}

TEST_F(InterruptsTest, ACountOfZeroRemovesAllEventFds) {
  Assign(VFIO_PCI_MSIX_IRQ_INDEX, 2, event_.get());
  EXPECT_EQ(ApplyAction(VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0), 0);
  EXPECT_FALSE(interrupts_.vectors_in_use());
  interrupts_.Raise(2);
  EXPECT_EQ(Signals(), 0u);
}

TEST(MsiTest, MsiReplacesMsix) {
  Interrupts interrupts(4, Interrupts::VectorType::kMsi);
  EXPECT_EQ(interrupts.Describe(VFIO_PCI_MSI_IRQ_INDEX).count, 4u);
  EXPECT_EQ(interrupts.Describe(VFIO_PCI_MSIX_IRQ_INDEX).count, 0u);
  base::UniqueFd event(::eventfd(0, EFD_NONBLOCK));
  IrqSet set;
  set.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
  set.index = VFIO_PCI_MSI_IRQ_INDEX;
  set.start = 3;
  set.count = 1;
  virtio::ReceivedFd fds[] = {virtio::ReceivedFd(::dup(event.get()))};
  ASSERT_EQ(interrupts.Set(set, {}, fds), 0);
  EXPECT_TRUE(interrupts.vectors_in_use());
  interrupts.Raise(3);
  uint64_t count = 0;
  EXPECT_EQ(::read(event.get(), &count, sizeof count), ssize_t{sizeof count});
  EXPECT_EQ(count, 1u);
}

TEST_F(InterruptsTest, IntxIsMaskedByEachInterrupt) {
  Assign(VFIO_PCI_INTX_IRQ_INDEX, 0, event_.get());
  interrupts_.SetIntx(true);
  interrupts_.SetIntx(true);
  EXPECT_EQ(Signals(), 1u);
  EXPECT_EQ(ApplyAction(VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK), 0);
  EXPECT_EQ(Signals(), 1u);
  interrupts_.SetIntx(false);
  EXPECT_EQ(ApplyAction(VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK), 0);
  EXPECT_EQ(Signals(), 0u);
  interrupts_.DisableIntx(true);
  interrupts_.SetIntx(true);
  EXPECT_EQ(Signals(), 0u);
  interrupts_.DisableIntx(false);
  EXPECT_EQ(Signals(), 1u);
}

class PciConfigTest : public testing::Test {
 protected:
  template <typename T>
  T Read(uint64_t offset) {
    T value{};
    EXPECT_TRUE(config_.Read(offset, std::as_writable_bytes(std::span(&value, 1))));
    return value;
  }
  template <typename T>
  void Write(uint64_t offset, T value) {
    EXPECT_TRUE(config_.Write(offset, std::as_bytes(std::span(&value, 1))));
  }
  PciConfig config_{{.vendor_id = 0x1234,
                     .device_id = 0x5678,
                     .class_code = 0x010802,
                     .bar0_bytes = 0x2000,
                     .bar4_bytes = 0x4000,
                     .vector_count = 64,
                     .pba_offset_bytes = 0x3000}};
};

TEST_F(PciConfigTest, ReadOnlyBitsStay) {
  for (uint64_t at = 0; at < PciConfig::kSizeBytes; at += 4) Write<uint32_t>(at, UINT32_MAX);
  EXPECT_EQ(Read<uint32_t>(PCI_VENDOR_ID), 0x56781234u);
  EXPECT_EQ(Read<uint32_t>(PCI_BASE_ADDRESS_0), ~0x1fffu | 4u);
  EXPECT_EQ(Read<uint32_t>(PCI_BASE_ADDRESS_2), 0u);
  EXPECT_EQ(Read<uint32_t>(PCI_BASE_ADDRESS_4), ~0x3fffu | 4u);
  EXPECT_EQ(Read<uint8_t>(PCI_CAPABILITY_LIST), 0x40);
  EXPECT_TRUE(config_.msix_enabled());
  EXPECT_TRUE(config_.all_vectors_masked());
  EXPECT_TRUE(config_.intx_disabled());
  EXPECT_TRUE(config_.TakeResetRequest());
  EXPECT_FALSE(config_.TakeResetRequest());
  config_.Reset();
  EXPECT_FALSE(config_.msix_enabled());
  EXPECT_EQ(Read<uint16_t>(PCI_COMMAND), 0);
}

TEST(PciConfigMsiTest, MsiReplacesMsix) {
  PciConfig config({.bar0_bytes = 0x2000, .bar4_bytes = 0x4000, .msi = true, .vector_count = 32});
  const auto read = [&config](uint64_t offset) {
    uint16_t value = 0;
    EXPECT_TRUE(config.Read(offset, std::as_writable_bytes(std::span(&value, 1))));
    return value;
  };
  constexpr uint64_t kCapability = 0x50;
  EXPECT_EQ(read(kCapability) & 0xff, PCI_CAP_ID_MSI);
  EXPECT_EQ(read(read(kCapability) >> 8) & 0xff, PCI_CAP_ID_EXP);
  EXPECT_EQ(read(kCapability + PCI_MSI_FLAGS), PCI_MSI_FLAGS_64BIT | 5 << 1);
  const std::vector<std::byte> ones(14, std::byte{0xff});
  EXPECT_TRUE(config.Write(kCapability, ones));
  EXPECT_EQ(read(kCapability) & 0xff, PCI_CAP_ID_MSI);
  EXPECT_EQ(read(kCapability + PCI_MSI_FLAGS),
            PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE | 5 << 1);
  EXPECT_EQ(read(kCapability + PCI_MSI_ADDRESS_LO), 0xfffc);
  EXPECT_EQ(read(kCapability + PCI_MSI_DATA_64), 0xffff);
  EXPECT_FALSE(config.msix_enabled());
}

TEST_F(PciConfigTest, RefusesAccessesBeyondTheEnd) {
  uint32_t value = 0;
  EXPECT_FALSE(config_.Read(4093, std::as_writable_bytes(std::span(&value, 1))));
  EXPECT_FALSE(config_.Write(UINT64_MAX, std::as_bytes(std::span(&value, 1))));
}

// The client shares the eventfd. After it has passed the descriptor, it fills the counter and
// clears O_NONBLOCK.
TEST(BlockingEventFdTest, ABlockingEventFdHoldsUpTheReactorOnce) {
  constexpr uint32_t kVectors = 100;
  Interrupts interrupts(kVectors);
  base::UniqueFd client(::eventfd(0, EFD_CLOEXEC));
  std::vector<virtio::ReceivedFd> fds;
  for (uint32_t i = 0; i < kVectors; ++i) fds.emplace_back(::dup(client.get()));
  const IrqSet set = {.argsz = sizeof(IrqSet),
                      .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
                      .index = VFIO_PCI_MSIX_IRQ_INDEX,
                      .start = 0,
                      .count = kVectors};
  ASSERT_EQ(interrupts.Set(set, {}, fds), 0);
  const uint64_t most = UINT64_MAX - 1;
  ASSERT_EQ(::write(client.get(), &most, sizeof most), static_cast<ssize_t>(sizeof most));
  ASSERT_EQ(::fcntl(client.get(), F_SETFL, 0), 0);
  const auto start = std::chrono::steady_clock::now();
  for (uint32_t i = 0; i < kVectors; ++i) interrupts.Raise(i);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  EXPECT_TRUE(interrupts.blocked());
}

// Of 400 descriptors, 100 are reserved.
TEST(DescriptorShareTest, AFunctionLeavesDescriptorsForOthers) {
  const base::LoweredDescriptorLimit limit(400);
  base::UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  constexpr uint32_t kVectors = 200;
  const auto assign = [&](Interrupts& interrupts, uint32_t vector) {
    const IrqSet set = {.argsz = sizeof(IrqSet),
                        .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
                        .index = VFIO_PCI_MSIX_IRQ_INDEX,
                        .start = vector,
                        .count = 1};
    virtio::ReceivedFd fds[] = {virtio::ReceivedFd(::dup(event.get()))};
    return interrupts.Set(set, {}, fds);
  };
  Interrupts greedy(kVectors);
  Interrupts modest(kVectors);
  uint32_t count = 0;
  while (count < kVectors && assign(greedy, count) == 0) ++count;
  EXPECT_GT(count, 64U);
  EXPECT_LT(count, 150U);
  EXPECT_EQ(assign(greedy, count), ENOSPC);
  EXPECT_EQ(assign(greedy, 0), 0);  // in the place of another
  for (uint32_t vector = 0; vector < 16; ++vector) EXPECT_EQ(assign(modest, vector), 0) << vector;
}

}  // namespace
}  // namespace sma::storage_target::vfio_user
