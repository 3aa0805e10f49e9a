// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "harness/vfio_user/unshared_ram.h"
#include "storage_target/nvmf/vfio_user/testing/function_fixture.h"

// Helpers for tests.

namespace sma::storage_target::nvmf::vfio_user {

/// A client with an I/O queue that has mapped another megabyte without a descriptor.
class UnsharedTest : public FunctionTest {
 protected:
  static constexpr uint64_t kFarAddress = uint64_t{1} << 40;

  void SetUp() override {
    FunctionTest::SetUp();
    StartIo();
  }

  void StartIo() {
    ASSERT_EQ(far.Map(), 0);
    ASSERT_TRUE(driver.Enable());
    queue.Clear();
    ASSERT_TRUE(driver.Create(queue));
  }

  // Connects again as a new client with these capabilities.
  void Restart(const std::string& capabilities) {
    client.Disconnect();
    ASSERT_TRUE(client.Connect(target.socket_path()));
    ASSERT_TRUE(client.Negotiate(capabilities));
    ASSERT_EQ(client.Map(ram), 0);
    StartIo();
  }

  harness::GuestBuffer Far(size_t page, size_t pages = 1) {
    return {far.AddressOf(page * kPage), far.bytes().subspan(page * kPage, pages * kPage)};
  }
  nvme::Status Write(const harness::GuestBuffer& from, uint64_t lba = 0) {
    return driver.Run(queue, OverPages(nvme::IoOpcode::kWrite, lba, from));
  }
  nvme::Status Read(const harness::GuestBuffer& to, uint64_t lba = 0) {
    return driver.Run(queue, OverPages(nvme::IoOpcode::kRead, lba, to));
  }

  // Holds back replies to the server's messages until AnswerWithheld.
  void Withhold() {
    far.SetInterceptor([this](const harness::VfioUserClient::Message& message) {
      withheld.push_back({message.header, message.payload, {}});
      return true;
    });
  }
  bool WaitWithheld(size_t count) {
    const auto until = std::chrono::steady_clock::now() + harness::VfioUserClient::kTimeout;
    while (withheld.size() < count && std::chrono::steady_clock::now() < until) {
      client.ServeRequests();
      std::this_thread::yield();
    }
    return withheld.size() == count;
  }
  void AnswerWithheld() {
    far.SetInterceptor(nullptr);
    for (const harness::VfioUserClient::Message& message : std::exchange(withheld, {}))
      far.Answer(message);
  }

  harness::UnsharedRam far{client, kFarAddress, 1 << 20};
  harness::NvmeQueue queue{ram, 1, 64, 64};
  harness::GuestBuffer near = ram.Allocate(32 * kPage, kPage);
  std::vector<harness::VfioUserClient::Message> withheld;
};

}  // namespace sma::storage_target::nvmf::vfio_user
