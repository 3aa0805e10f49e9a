// SPDX-License-Identifier: Apache-2.0

// Tests failure domains in real time: how one failing neighbour affects the others. A correct agent
// needs only a fraction of the time limits.

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <thread>
#include <vector>

#include "worlds/world.h"

namespace sma::worlds {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kServingTime{2500};
constexpr milliseconds kHealthTime{5000};
constexpr milliseconds kHealthyVolumesTime{1000};
constexpr int kCallers = 20;

class DomainTest : public testing::Test {
 protected:
  void SetUp() override { spdlog::set_level(spdlog::level::off); }

  // Uses the time limits of an agent in production.
  void Make(WorldOptions options) {
    world_ = std::make_unique<World>(options);
    world_->host().options = core::Options();
    world_->host().options.repair_drift = options.repairs_drift;
    RestartAgent();
    Within(kServingTime, [this] { return Serves(); });
  }
  void Run(const std::string& script) {
    EXPECT_TRUE(world_->Run(script));
    for (const std::string& problem : world_->problems()) ADD_FAILURE() << problem;
  }
  template <typename Condition>
  bool Within(milliseconds time, Condition condition) {
    const auto end = steady_clock::now() + time;
    while (!condition()) {
      if (steady_clock::now() > end) return false;
      std::this_thread::sleep_for(milliseconds(1));
    }
    return true;
  }
  bool Exports(int device, int volume) {
    return world_->target().With([&](SimSpdk& spdk) {
      auto subsystem = spdk.subsystems.find(NqnOf(device));
      if (subsystem == spdk.subsystems.end() || subsystem->second.listeners.empty()) return false;
      for (const auto& [nsid, ns] : subsystem->second.namespaces) {
        if (ns.uuid == UuidOf(volume)) return true;
      }
      return false;
    });
  }
  bool Serves() { return world_->host().is_serving(); }
  void RestartTarget() { world_->target().Restart(); }
  void RestartAgent() {
    world_->host().Crash();
    world_->host().Open();
  }

  std::unique_ptr<World> world_;
};

TEST_F(DomainTest, Defect46_NodeHangsWhenTheAgentStarts) {
  Make({});
  Run("create 0; create 1; attach 9 0; attach 1 1 p1; attach 3 1 p2; attach 4 1 p1; attach 6 1 p2");
  world_->target().SetPatient(true);
  Run("hang 1 0; hang 4 0; op delete 0; op delete 1");
  world_->target().With([](SimSpdk& spdk) { spdk.Restart(); });
  RestartAgent();
  EXPECT_TRUE(Within(kServingTime, [this] { return Serves(); })) << "the agent does not serve";
  EXPECT_TRUE(Within(kServingTime, [this] { return Exports(0, 9); })) << "a local volume waits";
}

TEST_F(DomainTest, Defect46_NodeHangsWhenTheTargetRestarts) {
  Make({});
  Run("create 0; create 1; attach 9 0; attach 1 1 p1; attach 3 1 p2; attach 4 1 p1; attach 6 1 p2");
  world_->target().SetPatient(true);
  Run("hang 1 0; hang 4 0");
  RestartTarget();
  EXPECT_TRUE(Within(kServingTime, [this] { return Exports(0, 9); })) << "a local volume waits";
  EXPECT_TRUE(Within(kServingTime, [this] { return Serves(); })) << "the agent does not serve";
}

TEST_F(DomainTest, Defect47_VmDoesNotAnswer) {
  Make({.has_machine = true});
  Run("create 0; attach 9 0; create 5; attach 11 5");
  world_->machine()->SetFaultPlan([](const std::string&) { return qmp::FakeQemu::Fault::kHang; });
  world_->target().With([](SimSpdk& spdk) { spdk.Restart(); });
  RestartAgent();
  EXPECT_TRUE(Within(kServingTime, [this] { return Serves(); })) << "the agent does not serve";
  EXPECT_TRUE(Within(kServingTime, [this] { return Exports(0, 9); })) << "another type waits";
}

TEST_F(DomainTest, Defect48_TargetWithoutOneTransport) {
  WorldOptions options{.has_machine = true};
  options.sim.refused_transports = {"VFIOUSER"};
  Make(options);
  EXPECT_TRUE(Within(kServingTime, [this] { return Serves(); })) << "the agent does not serve";
  Run("create 0; expect OK; attach 9 0; expect OK");
  RestartTarget();
  EXPECT_TRUE(Within(kServingTime, [this] { return Exports(0, 9); })) << "another type waits";
  Run("create 5; expect error");
}

TEST_F(DomainTest, Defect50_HealthWhenTheTargetHangs) {
  Make({});
  ASSERT_TRUE(Serves());
  world_->target().SetPatient(true);
  world_->target().SetHung(true);
  EXPECT_TRUE(Within(kHealthTime, [this] { return !Serves(); })) << "still SERVING";
  world_->target().SetHung(false);
  EXPECT_TRUE(Within(kHealthTime, [this] { return Serves(); }));
}

TEST_F(DomainTest, Defect51_DriftIsReportedAndNotRepaired) {
  Make({.repairs_drift = false});
  // One volume never reconnects after the restart of the target.
  Run("create 0; create 1; attach 9 0; attach 10 0; attach 11 1; qos 11 1 2; op rmdisk 9");
  RestartTarget();
  ASSERT_TRUE(Within(kServingTime + std::chrono::seconds(4), [this] { return Exports(1, 11); }));
  Run("op rmns 1 11; op limit 11 1; compare; compare");
  EXPECT_FALSE(Exports(1, 11)) << "it was repaired";
}

TEST_F(DomainTest, Defect55_OneVolumeDoesNotReconnect) {
  Make({});
  Run("create 0; attach 9 0; attach 1 0 p1; down 1 0");
  RestartTarget();
  EXPECT_TRUE(Within(kHealthyVolumesTime, [this] { return Exports(0, 9); }))
      << "a healthy volume waits for one that is not";
}

// Calls for a discovery address that does not answer fail immediately after one has timed out; they
// do not delay others; and the node is used again after it has recovered.
TEST_F(DomainTest, CallsForADeadDiscoveryAddressEndAtOnce) {
  for (const char* how : {"down", "hang"}) {
    WorldOptions options;
    Make(options);
    world_->host().options.volumes.discovery_timeout = milliseconds(1000);
    RestartAgent();
    ASSERT_TRUE(Within(kServingTime, [this] { return Serves(); }));
    Run("create 0; create 1");
    Run(std::string(how) + " 1 0");
    world_->target().SetPatient(true);
    auto attach = [this](int device, int volume, const char* by) {
      AttachVolumeRequest request;
      request.set_device_handle(HandleOf(device));
      *request.mutable_volume() = VolumeRequest(volume, by);
      return world_->host()
          .agent()
          .AttachVolume(base::Context::WithTimeout(std::chrono::seconds(20)), request)
          .status();
    };
    EXPECT_EQ(attach(0, 1, "d1").code(), absl::StatusCode::kNotFound);
    std::vector<std::thread> callers;
    std::atomic<int> at_once = 0;
    const auto begin = steady_clock::now();
    for (int i = 0; i < kCallers; ++i) {
      callers.emplace_back([&, i] {
        const absl::Status status = attach(0, 1 + i % 2, "d1");
        const bool was_quick = steady_clock::now() - begin < milliseconds(900);
        const bool has_reason = status.message().find("has not answered") != std::string::npos;
        at_once += absl::IsUnavailable(status) && was_quick && has_reason;
      });
    }
    EXPECT_TRUE(attach(1, 9, "").ok()) << "a local volume";
    EXPECT_TRUE(attach(1, 5, "d1").ok()) << "a volume of another node";
    const auto took = steady_clock::now() - begin;
    for (std::thread& caller : callers) caller.join();
    EXPECT_LT(took, milliseconds(900)) << how;
    // One of the calls may have made the next connection attempt and waited for it.
    EXPECT_GE(at_once, kCallers - 1) << how;
    Run("up 1 0");
    EXPECT_TRUE(Within(std::chrono::seconds(5), [&] { return attach(0, 1, "d1").ok(); })) << how;
    EXPECT_TRUE(attach(0, 3, "d1").ok()) << how;
  }
}

TEST_F(DomainTest, Defect60_DeadlineDuringTheLookupOfAVolume) {
  Make({});
  Run("create 0; vanish 1");
  world_->target().SetPatient(true);
  AttachVolumeRequest request;
  request.set_device_handle(HandleOf(0));
  *request.mutable_volume() = VolumeRequest(1, "d1");
  const base::Context context = base::Context::WithTimeout(milliseconds(60));
  const absl::Status status = world_->host().agent().AttachVolume(context, request).status();
  // The lookup ended at the caller's deadline, not at the time limit for volumes.
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
}

TEST_F(DomainTest, Defect58_LimitsThatWereNeverSet) {
  Make({});
  Run("create 0; attach 9 0");
  SetQosRequest request;
  request.set_device_handle(HandleOf(0));
  request.set_volume_id(VolumeId(9));
  QosLimit& maximum = *request.mutable_maximum();
  maximum.set_rw_iops(5);
  for (auto set : {&QosLimit::set_rd_iops, &QosLimit::set_wr_iops, &QosLimit::set_rd_bandwidth,
                   &QosLimit::set_wr_bandwidth, &QosLimit::set_rw_bandwidth}) {
    (maximum.*set)(UINT64_MAX);
  }
  const base::Context context = base::Context::Background();
  ASSERT_TRUE(world_->host().agent().SetQos(context, request).ok());
  admin::v1::GetVolumeRequest get;
  get.set_volume_id(VolumeId(9));
  auto volume = world_->host().admin().GetVolume(context, get);
  ASSERT_TRUE(volume.ok());
  EXPECT_EQ(volume->qos().rw_iops(), 5u);
  EXPECT_EQ(volume->qos().rd_bandwidth(), 0u);
  EXPECT_EQ(volume->qos().wr_iops(), 0u);
}

TEST_F(DomainTest, Defect61_LimitsOfRemovedVolumesInTheRecord) {
  Make({});
  // The limits of a removed volume are not kept.
  world_->host().options.keep_limits = std::chrono::nanoseconds(0);
  RestartAgent();
  ASSERT_TRUE(Within(kServingTime, [this] { return Serves(); }));
  Run("create 0; attach 9 0; qos 9 0 5; detach 9 0; attach 11 0; qos 11 0 5; delete 0");
  world_->host().Compare();
  EXPECT_TRUE(
      Within(kHealthyVolumesTime, [this] { return world_->host().LimitsWithoutVolume().empty(); }));
}

TEST_F(DomainTest, Defect65_SerialNumbersDiffer) {
  Make({});
  Run("create 0; create 1");
  world_->target().With([](SimSpdk& spdk) {
    EXPECT_NE(spdk.subsystems.at(NqnOf(0)).attributes["serial_number"],
              spdk.subsystems.at(NqnOf(1)).attributes["serial_number"]);
  });
}

}  // namespace
}  // namespace sma::worlds
