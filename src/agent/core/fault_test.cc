// Every call to the target and every write of the record fails in turn, in every way; the agent
// dies at every step. Afterwards nothing may be lost, left over or harmed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "agent/core/agent_fixture.h"

namespace sma::core {
namespace {

using jsonrpc::Json;
using jsonrpc::Request;
using spdk::Fault;

// Devices and what is attached to each.
using Model = std::map<std::string, std::set<std::string>>;

class FaultTest : public AgentFixture {
 protected:
  struct Operation {
    const char* name;
    std::function<void()> prepare;
    std::function<absl::Status()> run;
    Model before;
    Model after;
  };

  // The steps of all calls are counted: calls to the target and writes of the record.
  enum class Kind { kTarget, kRecord };
  using StepFault = std::function<Fault(uint64_t step, Kind kind)>;

  std::vector<Operation> Operations() {
    const Model one{{Nqn(0), {}}};
    const Model with_volume{{Nqn(0), {VolumeUuid(1)}}};
    auto create = [this] { ASSERT_TRUE(Create(0).ok()); };
    auto create_with = [this] { ASSERT_TRUE(Create(0, 1).ok()); };
    return {
        {"create", [] {}, [this] { return Create(0); }, {}, one},
        {"create with volume", [] {}, [this] { return Create(0, 1); }, {}, with_volume},
        {"create again", create_with, [this] { return Create(0, 1); }, with_volume, with_volume},
        {"attach", create, [this] { return Attach(Handle(0), 1); }, one, with_volume},
        {"attach again", create_with, [this] { return Attach(Handle(0), 1); }, with_volume,
         with_volume},
        {"detach", create_with, [this] { return Detach(Handle(0), 1); }, with_volume, one},
        {"delete", create_with, [this] { return Delete(Handle(0)); }, with_volume, {}},
    };
  }

  void Begin(const Operation& operation) {
    Crash();
    *disk_ = record::MemoryDisk();
    target_.SetFaultPlan(nullptr);
    target_.Restart();
    target_.AddBdev(VolumeUuid(1));
    Operator("nvmf_create_subsystem", {{"nqn", Nqn(99)}});
    Open();
    operation.prepare();
  }

  void SetStepFault(StepFault fault) {
    steps_ = 0;
    step_fault_ = std::move(fault);
    target_.SetFaultPlan([this](uint64_t, const Request&) {
      return step_fault_ ? step_fault_(steps_++, Kind::kTarget) : Fault::kNone;
    });
    disk_->fault = [this](record::Durability) {
      Fault now = step_fault_ ? step_fault_(steps_++, Kind::kRecord) : Fault::kNone;
      return now == Fault::kNone ? absl::OkStatus() : absl::ResourceExhaustedError("disk full");
    };
  }
  void EndStepFault() {
    step_fault_ = nullptr;
    target_.SetFaultPlan(nullptr);
    disk_->fault = nullptr;
  }

  Model OnTarget() {
    Model model;
    const Json subsystems = *target_.Operator("nvmf_get_subsystems");
    for (const Json& subsystem : subsystems) {
      if (subsystem["subtype"] != "NVMe" || subsystem["nqn"] == Nqn(99)) continue;
      std::set<std::string>& volumes = model[subsystem["nqn"]];
      for (const Json& ns : subsystem["namespaces"]) volumes.insert(ns["uuid"]);
    }
    return model;
  }
  Model InRecord() {
    Model model;
    for (const record::Device& device : core_->record().Devices()) {
      std::set<std::string>& volumes = model[device.params.nvmf_tcp().subnqn()];
      for (const record::Volume& volume : core_->record().VolumesOf(device.handle)) {
        volumes.insert(volume.id.ToString());
      }
    }
    return model;
  }

  // What must hold in the end when the call was answered with `status`, or, without one, was not
  // answered at all.
  void ExpectEnd(const Operation& operation, std::optional<absl::Status> status,
                 const std::string& where) {
    bool removes =
        operation.after.size() < operation.before.size() || std::string(operation.name) == "detach";
    std::vector<Model> allowed;
    if (!status || status->ok()) allowed.push_back(operation.after);
    // A removal that failed is finished later, if it got as far as being written down.
    if (status && !status->ok() && removes) allowed.push_back(operation.after);
    if (!status || !status->ok()) allowed.push_back(operation.before);
    auto good = [&] {
      return InRecord() == OnTarget() &&
             std::count(allowed.begin(), allowed.end(), OnTarget()) > 0 && IsSettled();
    };
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!good() && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_TRUE(good()) << operation.name << ", " << where << "\n" << target_.Dump();
    EXPECT_FALSE(Subsystem(99).is_null()) << where;
  }
  bool IsSettled() {
    for (const record::Device& device : core_->record().Devices()) {
      if (device.state != record::DeviceState::kReady) return false;
    }
    for (const record::Volume& volume : core_->record().Volumes()) {
      if (volume.state != record::VolumeState::kAttached) return false;
    }
    return true;
  }

  std::atomic<uint64_t> steps_ = 0;
  StepFault step_fault_;
};

TEST_F(FaultTest, EachStepFailsInTurn) {
  int cases = 0;
  for (const Operation& operation : Operations()) {
    for (Fault fault : {Fault::kRefuse, Fault::kNotSent, Fault::kDropCall, Fault::kLoseAnswer}) {
      bool hit = true;
      for (uint64_t failing = 0; hit; ++failing) {
        Begin(operation);
        hit = false;
        SetStepFault([&, failing](uint64_t step, Kind) {
          hit |= step == failing;
          return step == failing ? fault : Fault::kNone;
        });
        absl::Status status = operation.run();
        EndStepFault();
        ExpectEnd(operation, status,
                  "fault " + std::to_string(static_cast<int>(fault)) + " at step " +
                      std::to_string(failing));
        ++cases;
      }
    }
  }
  RecordProperty("cases", cases);
  EXPECT_GT(cases, 100);
}

// From a step on nothing has any effect: as if the agent were killed there. Then it starts anew.
TEST_F(FaultTest, AgentDiesAtEachStep) {
  int cases = 0;
  for (const Operation& operation : Operations()) {
    for (bool target_restarts : {false, true}) {
      bool died = true;
      for (uint64_t dies_at = 0; died; ++dies_at) {
        Begin(operation);
        died = false;
        SetStepFault([&, dies_at](uint64_t step, Kind) {
          died |= step >= dies_at;
          return step >= dies_at ? Fault::kNotSent : Fault::kNone;
        });
        target_.SetOnConnect(nullptr);
        absl::Status status = operation.run();
        std::optional<absl::Status> answer;
        if (!died) answer = status;
        Crash();
        EndStepFault();
        if (target_restarts) {
          target_.Restart();
          target_.AddBdev(VolumeUuid(1));
          Operator("nvmf_create_subsystem", {{"nqn", Nqn(99)}});
        }
        Open();
        ExpectEnd(operation, answer, "died at step " + std::to_string(dies_at));
        ++cases;
      }
    }
  }
  RecordProperty("cases", cases);
  EXPECT_GT(cases, 40);
}

}  // namespace
}  // namespace sma::core
