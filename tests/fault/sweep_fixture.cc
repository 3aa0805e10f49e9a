// SPDX-License-Identifier: Apache-2.0

#include "fault/sweep_fixture.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "agent/crypto/bdev_crypto_engine.h"
#include "devices/vfiouser/vfiouser_manager.h"
#include "devices/vhost_blk/vhost_blk_manager.h"

namespace sma::core {

using fault::Verdict;
using jsonrpc::Request;
using qmp::FakeQemu;
using spdk::Fault;
using std::chrono::milliseconds;

namespace {

// After several failures, later cases wait for a shorter time.
constexpr std::chrono::seconds kMaxSettleTime{10};
constexpr milliseconds kSettleTimeAfterFailures{300};
constexpr int kPatience = 3;

bool Includes(const std::set<std::string>& there, const std::set<std::string>& wanted) {
  return std::includes(there.begin(), there.end(), wanted.begin(), wanted.end());
}

std::string Difference(const std::set<std::string>& there, const std::set<std::string>& wanted) {
  std::string text;
  for (const std::string& line : wanted) {
    if (!there.contains(line)) text += "  missing: " + line + "\n";
  }
  for (const std::string& line : there) {
    if (!wanted.contains(line)) text += "  too much: " + line + "\n";
  }
  return text;
}

FakeQemu::Fault Translate(Fault fault) {
  switch (fault) {
    case Fault::kNone:
      return FakeQemu::Fault::kNone;
    case Fault::kRefuse:
    case Fault::kBusy:
      return FakeQemu::Fault::kRefuse;
    case Fault::kNotSent:
    case Fault::kDropCall:
      return FakeQemu::Fault::kDropCall;
    case Fault::kLoseAnswer:
      return FakeQemu::Fault::kLoseAnswer;
    default:
      return FakeQemu::Fault::kHang;
  }
}

}  // namespace

std::string Name(Group group) {
  constexpr const char* kNames[] = {"local",     "discovery",        "direct",    "iscsi",
                                    "encrypted", "encrypted_remote", "vhost_blk", "vfiouser"};
  return kNames[static_cast<int>(group)];
}

SweepFixture::SweepFixture() {
  std::string folder = std::filesystem::temp_directory_path() / "sma_sweep_XXXXXX";
  folder_ = ::mkdtemp(folder.data());
  const char* seed = std::getenv("SMA_SWEEP_SEED");
  seed_ = seed != nullptr ? std::strtoull(seed, nullptr, 10) : std::random_device{}();
  random_.seed(seed_);
}

uint64_t SweepFixture::Skip(uint64_t mean) {
  if (std::getenv("SMA_SWEEP_ALL") != nullptr) return 0;
  return std::uniform_int_distribution<uint64_t>(0, 2 * mean)(random_);
}

SweepFixture::~SweepFixture() { std::filesystem::remove_all(folder_); }

bool SweepFixture::has_machine() const {
  return GetParam() == Group::kVhostBlk || GetParam() == Group::kVfioUser;
}

void SweepFixture::SetUp() {
  spdlog::set_level(spdlog::level::off);
  target_.SetWaits(false);
  MakeRemotes();
  engine_ = [this] { return std::make_unique<crypto::BdevCryptoEngine>(target_, ""); };
  sealing_key_ = "0123456789abcdef0123456789ABCDEF";
  options_.min_retry_pause = milliseconds(1);
  if (has_machine()) {
    qemu_ = std::make_unique<FakeQemu>(folder_ + "/qmp");
    qemu_->SetCommandLine(
        {{"operators-disk", {{"id", "operators-disk"}, {"bus", "bus0"}, {"addr", "0x1f"}}}});
    target_.SetSessionSource(
        [this](const std::string& name) { return qemu_->HasDevice(name) ? 1 : 0; });
  }
  AgentFixture::SetUp();
}

void SweepFixture::TearDown() {
  AgentFixture::TearDown();
  EXPECT_EQ(target_.keys_destroyed_in_use(), 0u);
  spdlog::set_level(spdlog::level::info);
}

std::vector<std::unique_ptr<DeviceManager>> SweepFixture::MakeManagers() {
  if (!has_machine()) return AgentFixture::MakeManagers();
  auto machine = std::make_shared<qmp::Client>(qmp::ClientOptions{.address = qemu_->address(),
                                                                  .connect_wait = milliseconds(500),
                                                                  .retry_pause = milliseconds(1)});
  const qmp::Buses buses({{.name = "bus0", .vm = machine}}, true);
  std::vector<std::unique_ptr<DeviceManager>> managers;
  if (GetParam() == Group::kVhostBlk) {
    vhost_blk::Options options{.buses = buses, .socket_folder = folder_};
    options.unplug_wait = milliseconds(20);
    managers.push_back(std::make_unique<vhost_blk::VhostBlkManager>(target_, options));
  } else {
    vfiouser::Options options{.buses = buses, .socket_folder = folder_};
    options.unplug_wait = milliseconds(20);
    managers.push_back(std::make_unique<vfiouser::VfioUserManager>(target_, options));
  }
  return managers;
}

void SweepFixture::Begin(const Operation& operation) {
  Crash();
  EndStepFault();
  *disk_ = record::MemoryDisk();
  disk_->fault = [this](record::Durability) {
    const Fault fault = NextStep();
    const bool fails = fault != Fault::kNone && fault < Fault::kHang;
    return fails ? absl::ResourceExhaustedError("disk full") : absl::OkStatus();
  };
  target_.SetFaultPlan([this](uint64_t, const Request&) { return NextStep(); });
  target_.SetImpatient(true);
  target_.SetLate(0, false);
  target_.Restart();
  MakeOperatorsThings();
  if (qemu_) {
    qemu_->SetFaultPlan([this](const std::string&) { return NextMachineStep(); });
    RestartMachine();
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    if (entry.is_directory()) std::filesystem::remove_all(entry.path());
  }
  operators_ = Now();
  context_ = base::Context::Background();
  Open();
  operation.prepare();
  died_ = false;
}

void SweepFixture::Rehearse(const Operation& operation) {
  Begin(operation);
  before_ = Now();
  const absl::Status status = operation.run();
  EXPECT_EQ(status.code(), operation.code) << operation.name << ": " << status;
  // A guest that releases its disk late makes the removal continue in the background.
  WaitFor([this] { return !HasRemovals(); });
  after_ = Now();
  EXPECT_EQ(before_ == after_, operation.code != absl::StatusCode::kOk ||
                                   operation.name.find("again") != std::string::npos)
      << operation.name;
}

void SweepFixture::SetStepFault(StepFault fault) {
  base::MutexLock lock(mutex_);
  step_fault_ = std::move(fault);
  steps_ = 0;
}

Fault SweepFixture::NextStep() {
  base::MutexLock lock(mutex_);
  return step_fault_ ? step_fault_(steps_++) : Fault::kNone;
}

FakeQemu::Fault SweepFixture::NextMachineStep() {
  const Fault fault = NextStep();
  if (fault == Fault::kNone) return FakeQemu::Fault::kNone;
  std::function<void()> happens;
  std::optional<FakeQemu::Fault> own;
  {
    base::MutexLock lock(mutex_);
    happens = machine_faulted_;
    own = machine_fault_;
  }
  if (happens) happens();
  return own.value_or(Translate(fault));
}

void SweepFixture::EndStepFault() {
  base::MutexLock lock(mutex_);
  step_fault_ = nullptr;
  machine_fault_.reset();
  machine_faulted_ = nullptr;
}

void SweepFixture::SetMachineFault(FakeQemu::Fault fault, std::function<void()> happens) {
  base::MutexLock lock(mutex_);
  machine_fault_ = fault;
  machine_faulted_ = std::move(happens);
}

void SweepFixture::DieAt(uint64_t step) {
  died_ = false;
  SetMachineFault(FakeQemu::Fault::kDropCall);
  SetStepFault([this, step](uint64_t at) {
    if (at < step) return Fault::kNone;
    died_ = true;
    return Fault::kNotSent;
  });
}

std::optional<absl::Status> SweepFixture::RunUntilDeath(const Operation& operation,
                                                        uint64_t dies_at) {
  Begin(operation);
  target_.SetOnConnect(nullptr);
  DieAt(dies_at);
  std::optional<absl::Status> status = operation.run();
  if (died_) status.reset();
  Crash();
  EndStepFault();
  return status;
}

bool SweepFixture::OpenUntilDeath() {
  OpenCore();
  WaitFor([this] {
    base::MutexLock lock(mutex_);
    return serving_ || died_;
  });
  base::MutexLock lock(mutex_);
  return !died_;
}

void SweepFixture::RestartTarget() {
  target_.Restart();
  MakeOperatorsThings();
}

void SweepFixture::RestartMachine() {
  qemu_->Kill();
  qemu_->Start();
}

void SweepFixture::CompareAgain() { core_->OnConnect(target_.generation()); }

bool SweepFixture::IsAllowed(const State& state) const {
  return std::any_of(allowed_.begin(), allowed_.end(),
                     [&](const State* wanted) { return *wanted == state; });
}

Verdict SweepFixture::CheckResult(const Operation& operation,
                                  const std::optional<absl::Status>& status) {
  const bool succeeded = status && status->ok();
  allowed_.clear();
  // A failed removal is finished later if it was already recorded.
  if (!status || succeeded || operation.removes) allowed_.push_back(&after_);
  if (!succeeded) allowed_.push_back(&before_);
  const auto timeout =
      tally_.failures() < kPatience ? milliseconds(kMaxSettleTime) : kSettleTimeAfterFailures;
  auto end = std::chrono::steady_clock::now() + timeout;
  State there = Now();
  while (!IsAllowed(there) && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(milliseconds(1));
    there = Now();
  }
  if (!Includes(there, operators_)) return Verdict::kHarmed;
  for (const std::string& line : there) {
    if (line.find("operators") != std::string::npos && !operators_.contains(line)) {
      return Verdict::kHarmed;
    }
  }
  if (IsAllowed(there)) return Verdict::kGood;
  const bool whole = std::any_of(allowed_.begin(), allowed_.end(),
                                 [&](const State* wanted) { return Includes(there, *wanted); });
  return whole ? Verdict::kLeaked : Verdict::kLost;
}

void SweepFixture::RecordResult(const Operation& operation,
                                const std::optional<absl::Status>& status,
                                const std::string& where) {
  const Verdict verdict = CheckResult(operation, status);
  tally_.Add(operation.name, verdict);
  if (verdict == Verdict::kGood) return;
  ADD_FAILURE() << operation.name << ", " << where << ", answer "
                << (status ? status->ToString() : std::string("none")) << "\n"
                << Difference(Now(), *allowed_.front());
}

void SweepFixture::PrintTable(const std::string& title) {
  std::cout << Name(GetParam()) << ": " << title << " (seed " << seed_ << ")\n"
            << tally_.Text() << std::flush;
}

}  // namespace sma::core
