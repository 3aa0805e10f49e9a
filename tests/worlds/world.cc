// SPDX-License-Identifier: Apache-2.0

#include "worlds/world.h"

#include <spdlog/spdlog.h>
#include <stdlib.h>

#include <filesystem>
#include <thread>

#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace sma::worlds {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

World::World(WorldOptions options) : options_(std::move(options)) {
  std::string folder = std::filesystem::temp_directory_path() / "sma_world_XXXXXX";
  folder_ = ::mkdtemp(folder.data());
  target_ = std::make_unique<SimTarget>(storage_, options_.sim);
  if (options_.has_machine) {
    machine_ = std::make_unique<qmp::FakeQemu>(folder_ + "/qmp");
    machine_->SetFaultPlan([this](const std::string&) {
      switch (NextStep()) {
        case StepFault::kNone:
          return qmp::FakeQemu::Fault::kNone;
        case StepFault::kRefuse:
          return qmp::FakeQemu::Fault::kRefuse;
        case StepFault::kLoseAnswer:
          return qmp::FakeQemu::Fault::kLoseAnswer;
        default:
          return qmp::FakeQemu::Fault::kDropCall;
      }
    });
  }
  target_->With([this](SimSpdk& spdk) {
    for (int volume = 1; volume <= kVolumeCount; ++volume) {
      if (LocationOf(volume) == Location::kLocal) {
        spdk.AddLocalBdev(UuidOf(volume), TruthOf(volume).medium);
      }
      spdk.truth[UuidOf(volume)] = TruthOf(volume);
    }
    // Adds disks that only the operator uses.
    for (int disk = 90; disk < 99; ++disk) spdk.AddLocalBdev(UuidOf(disk));
    if (machine_) {
      spdk.vhost_sessions = [this](const std::string& name) {
        return machine_->HasDevice(name) ? 1 : 0;
      };
    }
  });
  target_->SetFaultPlan([this] { return NextStep(); });
  disk_->fault = [this](record::Durability) {
    const StepFault fault = NextStep();
    const bool fails = fault != StepFault::kNone && fault < StepFault::kHang;
    return fails ? absl::ResourceExhaustedError("disk full") : absl::OkStatus();
  };
  host_ = std::make_unique<AgentHost>(*target_, disk_, machine_.get(), folder_);
  host_->options.repair_drift = options_.repairs_drift;
  host_->Open();
  WaitUntilServing(milliseconds(5000));
}

World::~World() {
  host_.reset();
  machine_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

bool World::WaitUntilServing(milliseconds time) {
  const auto end = steady_clock::now() + time;
  while (!host_->is_serving()) {
    if (steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

StepFault World::NextStep() {
  base::MutexLock lock(mutex_);
  ++steps_;
  if (die_at_ != 0 && steps_ >= die_at_) {
    died_ = true;
    return StepFault::kNotSent;
  }
  return fault_at_ != 0 && steps_ == fault_at_ ? fault_ : StepFault::kNone;
}

void World::Problem(std::string text) { problems_.push_back(std::move(text)); }

bool World::Run(const std::string& script) {
  for (absl::string_view line : absl::StrSplit(script, absl::ByAnyChar("\n;"))) {
    const std::string step(absl::StripAsciiWhitespace(line));
    if (!step.empty() && !Step(step)) return false;
  }
  return problems_.empty();
}

}  // namespace sma::worlds
