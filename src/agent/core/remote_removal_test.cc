// SPDX-License-Identifier: Apache-2.0

// Tests, with the whole agent, the removal of volumes whose storage node died while hosts had I/O
// under way.

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/core/testing/remote_fixture.h"

namespace sma::core {
namespace {

using spdk::FakeRemote;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

enum class Order { kAtOnce, kInTurn, kDelete };

struct Removal {
  const char* name;
  bool direct;
  Order order;
};
void PrintTo(const Removal& removal, std::ostream* out) { *out << removal.name; }

class RemoteRemovalTest : public RemoteFixture, public testing::WithParamInterface<Removal> {
 protected:
  void SetUp() override {
    options_.removal_time = milliseconds(200);
    RemoteFixture::SetUp();
    empty_ = target_.Dump();
  }

  static AttachVolumeRequest Way(int volume, bool direct, int device = 0) {
    AttachVolumeRequest request =
        direct ? Direct(volume, {"4430"}) : Discovered(volume, {"8009"}, device);
    request.set_device_handle(Handle(device));
    request.mutable_volume()->mutable_nvmf()->set_hostnqn("nqn.2014-08.org.nvmexpress:host");
    return request;
  }
  void KillNode() {
    FakeRemote down = RemoteA();
    down.up = false;
    target_.SetRemote("a", down);
    target_.SetIoUnderWay(true);
  }
};

// While volumes that are all being removed keep their connection for each other, their I/O does not
// end, and thus none of the removals.
TEST_P(RemoteRemovalTest, VolumesThatAreAllRemovedDoNotWaitForEachOther) {
  for (int volume : {1, 2, 3}) ASSERT_TRUE(Send(Way(volume, GetParam().direct)).ok());
  KillNode();
  if (GetParam().order == Order::kDelete) {
    EXPECT_TRUE(Delete(Handle(0)).ok());
    EXPECT_TRUE(Delete(Handle(1)).ok());
  } else {
    std::vector<std::thread> calls;
    for (int volume : {1, 2, 3}) {
      calls.emplace_back([&, volume] { EXPECT_TRUE(Detach(Handle(0), volume).ok()); });
      if (GetParam().order == Order::kInTurn) calls.back().join();
    }
    for (std::thread& call : calls) {
      if (call.joinable()) call.join();
    }
  }
  WaitFor([&] { return core_->record().volume_count() == 0; });
  EXPECT_TRUE(Controllers().empty()) << Controllers().dump(1);
  EXPECT_TRUE(Services().empty()) << Services().dump(1);
}

// The last removal must not release a connection that a volume still uses.
TEST_P(RemoteRemovalTest, AVolumeThatStaysKeepsTheConnection) {
  for (int volume : {1, 2}) ASSERT_TRUE(Send(Way(volume, GetParam().direct)).ok());
  ASSERT_TRUE(Send(Way(3, GetParam().direct, 1)).ok());
  KillNode();
  for (int volume : {1, 2}) EXPECT_TRUE(Detach(Handle(0), volume).ok());
  EXPECT_EQ(Controllers().size(), 1);
  EXPECT_EQ(Namespaces(1), std::vector<std::string>{VolumeUuid(3)});
  target_.SetIoUnderWay(false);
  target_.SetRemote("a", RemoteA());
  WaitFor([&] { return core_->record().volume_count() == 1; });
  EXPECT_EQ(Namespaces(1), std::vector<std::string>{VolumeUuid(3)});
}

// The target answers a removal only when the I/O has ended; the caller does not wait for that
// longer than for the time of removals.
TEST_P(RemoteRemovalTest, IsAnsweredInTimeAlthoughTheConnectionIsKept) {
  ASSERT_TRUE(Send(Way(1, GetParam().direct)).ok());
  ASSERT_TRUE(Send(Way(2, GetParam().direct, 1)).ok());
  KillNode();
  const auto start = steady_clock::now();
  EXPECT_TRUE((GetParam().order == Order::kDelete ? Delete(Handle(0)) : Detach(Handle(0), 1)).ok());
  EXPECT_LT(steady_clock::now() - start, seconds(3));
  EXPECT_EQ(Namespaces(1), std::vector<std::string>{VolumeUuid(2)});
  target_.SetIoUnderWay(false);
  WaitFor([&] { return core_->record().volume_count() == 1; });
}

INSTANTIATE_TEST_SUITE_P(Ways, RemoteRemovalTest,
                         testing::Values(Removal{"DirectAtOnce", true, Order::kAtOnce},
                                         Removal{"DirectInTurn", true, Order::kInTurn},
                                         Removal{"DirectDelete", true, Order::kDelete},
                                         Removal{"DiscoveryAtOnce", false, Order::kAtOnce},
                                         Removal{"DiscoveryInTurn", false, Order::kInTurn},
                                         Removal{"DiscoveryDelete", false, Order::kDelete}),
                         [](const testing::TestParamInfo<Removal>& removal) {
                           return std::string(removal.param.name);
                         });

}  // namespace
}  // namespace sma::core
