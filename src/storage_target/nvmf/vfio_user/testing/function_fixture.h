// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <cstring>
#include <vector>

#include "harness/vfio_user/client.h"
#include "harness/vfio_user/nvme_driver.h"
#include "storage_target/nvmf/vfio_user/testing/test_target.h"

// Helpers for tests.

namespace sma::storage_target::nvmf::vfio_user {

/// A target and one connected client with 64 MiB of memory.
class FunctionTest : public testing::Test {
 protected:
  static constexpr uint64_t kRamAddress = 0x100000;
  static constexpr size_t kPage = nvme::kMinPageSize;

  explicit FunctionTest(const Options& options = {}) : target(options) {}

  void SetUp() override { Connect(); }

  void Connect() {
    ASSERT_TRUE(client.Connect(target.socket_path()));
    ASSERT_TRUE(client.Negotiate());
    ASSERT_EQ(client.Map(ram), 0);
  }

  static base::UniqueFd MakeEventFd() { return base::UniqueFd(::eventfd(0, EFD_CLOEXEC)); }

  /// Fills `bytes` with values that depend on their position.
  static void Fill(std::span<std::byte> bytes, uint32_t seed) {
    for (size_t i = 0; i < bytes.size(); i += sizeof(uint32_t)) {
      const uint32_t value = seed * 2654435761u + static_cast<uint32_t>(i);
      std::memcpy(&bytes[i], &value, sizeof value);
    }
  }
  static bool Holds(std::span<const std::byte> bytes, uint32_t seed) {
    std::vector<std::byte> expected(bytes.size());
    Fill(expected, seed);
    return std::memcmp(bytes.data(), expected.data(), bytes.size()) == 0;
  }

  /// Returns a command for one contiguous buffer of whole pages.
  nvme::Command OverPages(nvme::IoOpcode opcode, uint64_t lba, const harness::GuestBuffer& buffer) {
    nvme::Command command =
        harness::IoCommand(opcode, lba, static_cast<uint32_t>(buffer.bytes.size() / kPage));
    std::vector<uint64_t> pages;
    for (size_t at = 0; at < buffer.bytes.size(); at += kPage)
      pages.push_back(buffer.guest_address + at);
    harness::SetPrps(command, pages, list);
    return command;
  }

  /// Replaces the PRP list of a command for `data`, which must be more than two pages, with two
  /// lists: the first has room for two entries at the end of its page, and the second entry points
  /// to the next list.
  static void ChainPrpLists(nvme::Command& command, const harness::GuestBuffer& data,
                            const harness::GuestBuffer& two_pages) {
    SetPrp2(command, two_pages.guest_address + kPage - 2 * sizeof(uint64_t));
    const uint64_t first[] = {data.guest_address + kPage, two_pages.guest_address + kPage};
    std::memcpy(&two_pages.bytes[kPage - sizeof first], first, sizeof first);
    for (uint64_t i = 2; i < data.bytes.size() / kPage; ++i) {
      const uint64_t page = data.guest_address + i * kPage;
      std::memcpy(&two_pages.bytes[kPage + (i - 2) * sizeof page], &page, sizeof page);
    }
  }
  static void SetPrp2(nvme::Command& command, uint64_t address) {
    std::memcpy(reinterpret_cast<std::byte*>(&command.sgl) + 8, &address, sizeof address);
  }

  TestTarget target;
  harness::GuestRam ram{64 << 20, kRamAddress, 0};
  harness::VfioUserClient client;
  harness::NvmeDriver driver{client, ram};
  harness::GuestBuffer list = ram.Allocate(kPage, kPage);
};

}  // namespace sma::storage_target::nvmf::vfio_user
