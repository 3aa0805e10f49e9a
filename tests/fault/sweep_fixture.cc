#include "fault/sweep_fixture.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace sma::core {

using absl::StatusCode;
using fault::Verdict;
using jsonrpc::Json;
using jsonrpc::Request;
using spdk::Fault;

namespace {

constexpr int kOperators = 99;       // number of the operator's device and volume
constexpr int kMissingVolume = 555;  // which the target does not have
constexpr uint64_t kIopsStep = 1000;

bool Includes(const std::map<std::string, std::map<std::string, uint64_t>>& there,
              const std::map<std::string, std::map<std::string, uint64_t>>& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& device) {
    auto found = there.find(device.first);
    return found != there.end() && std::includes(found->second.begin(), found->second.end(),
                                                 device.second.begin(), device.second.end());
  });
}

}  // namespace

std::vector<SweepFixture::Operation> SweepFixture::Operations() {
  const std::string nqn = Nqn(0);
  const std::map<std::string, uint64_t> first{{VolumeUuid(1), 0}};
  const std::map<std::string, uint64_t> both{{VolumeUuid(1), 0}, {VolumeUuid(2), 0}};
  const Model empty{{nqn, {}}}, one{{nqn, first}}, two{{nqn, both}};
  auto nothing = [] {};
  auto create = [this] { ASSERT_TRUE(Create(0).ok()); };
  auto create_one = [this] { ASSERT_TRUE(Create(0, 1).ok()); };
  auto create_two = [this] {
    ASSERT_TRUE(Create(0, 1).ok());
    ASSERT_TRUE(Attach(Handle(0), 2).ok());
  };
  auto limited = [this] {
    ASSERT_TRUE(Create(0, 1).ok());
    ASSERT_TRUE(SetLimit(0, 1, 3).ok());
  };
  auto create_other = [this] {
    CreateDeviceRequest request = CreateRequest(0);
    request.mutable_nvmf_tcp()->set_trsvcid("4421");
    return Create(request);
  };
  const StatusCode exists = StatusCode::kAlreadyExists, missing = StatusCode::kNotFound;
  return {
      {"create", nothing, [this] { return Create(0); }, {}, empty},
      {"create with volume", nothing, [this] { return Create(0, 1); }, {}, one},
      {"create again", create_one, [this] { return Create(0, 1); }, one, one},
      {"create with other parameters", create_one, create_other, one, one, exists},
      {"create without its volume",
       nothing,
       [this] { return Create(0, kMissingVolume); },
       {},
       {},
       missing},
      {"attach", create, [this] { return Attach(Handle(0), 1); }, empty, one},
      {"attach a second", create_one, [this] { return Attach(Handle(0), 2); }, one, two},
      {"attach again", create_one, [this] { return Attach(Handle(0), 1); }, one, one},
      {"attach a missing one", create_one, [this] { return Attach(Handle(0), kMissingVolume); },
       one, one, missing},
      {"detach", create_two, [this] { return Detach(Handle(0), 2); }, two, one, StatusCode::kOk,
       true},
      {"delete", create, [this] { return Delete(Handle(0)); }, empty, {}, StatusCode::kOk, true},
      {"delete with volumes",
       create_two,
       [this] { return Delete(Handle(0)); },
       two,
       {},
       StatusCode::kOk,
       true},
      {"set first limits", create_one, [this] { return SetLimit(0, 1, 5); }, one,
       Model{{nqn, {{VolumeUuid(1), 5 * kIopsStep}}}}},
      {"set limits", limited, [this] { return SetLimit(0, 1, 5); },
       Model{{nqn, {{VolumeUuid(1), 3 * kIopsStep}}}},
       Model{{nqn, {{VolumeUuid(1), 5 * kIopsStep}}}}},
  };
}

absl::Status SweepFixture::SetLimit(int number, int volume, uint64_t rw_iops) {
  SetQosRequest request;
  request.set_device_handle(Handle(number));
  request.set_volume_id(Id(volume));
  request.mutable_maximum()->set_rw_iops(rw_iops);
  return core_->agent().SetQos(context_, request).status();
}

void SweepFixture::MakeOperatorsThings() {
  for (int volume : {1, 2, kOperators}) target_.AddBdev(VolumeUuid(volume));
  // After a restart of the target the agent may have been the first.
  auto transport = target_.Operator("nvmf_create_transport", {{"trtype", "TCP"}});
  if (!transport.ok()) {
    EXPECT_THAT(transport.status().message(), testing::HasSubstr("already exists"));
  }
  Operator("nvmf_create_subsystem", {{"nqn", Nqn(kOperators)}});
  Operator("nvmf_subsystem_add_ns",
           {{"nqn", Nqn(kOperators)},
            {"namespace", {{"bdev_name", "null-" + VolumeUuid(kOperators)}, {"nsid", 7}}}});
  Operator("nvmf_subsystem_add_host",
           {{"nqn", Nqn(kOperators)}, {"host", "nqn.2016-06.io.spdk:operator"}});
  Operator(
      "nvmf_subsystem_add_listener",
      {{"nqn", Nqn(kOperators)},
       {"listen_address",
        {{"trtype", "TCP"}, {"adrfam", "IPv4"}, {"traddr", "127.0.0.1"}, {"trsvcid", "4499"}}}});
}

std::string SweepFixture::OperatorsThings() {
  std::string names;
  const Json bdevs = *target_.Operator("bdev_get_bdevs");
  for (const Json& bdev : bdevs) names += bdev["name"].get<std::string>() + " ";
  return names + Subsystem(kOperators).dump();
}

void SweepFixture::Begin(const Operation& operation) {
  Crash();
  EndStepFault();
  *disk_ = record::MemoryDisk();
  disk_->fault = [this](record::Durability) {
    return NextStep() == Fault::kNone ? absl::OkStatus()
                                      : absl::ResourceExhaustedError("disk full");
  };
  target_.SetFaultPlan([this](uint64_t, const Request&) { return NextStep(); });
  target_.Restart();
  MakeOperatorsThings();
  operators_things_ = OperatorsThings();
  context_ = base::Context::Background();
  Open();
  operation.prepare();
  died_ = false;
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

void SweepFixture::EndStepFault() {
  base::MutexLock lock(mutex_);
  step_fault_ = nullptr;
}

void SweepFixture::DieAt(uint64_t step) {
  died_ = false;
  SetStepFault([this, step](uint64_t at) {
    if (at < step) return Fault::kNone;
    died_ = true;
    return Fault::kNotSent;
  });
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

SweepFixture::Model SweepFixture::OnTarget() {
  std::map<std::string, uint64_t> limits;
  const Json bdevs = *target_.Operator("bdev_get_bdevs");
  for (const Json& bdev : bdevs) {
    limits[bdev["uuid"]] = bdev["assigned_rate_limits"].value("rw_ios_per_sec", uint64_t{0});
  }
  Model model;
  const Json subsystems = *target_.Operator("nvmf_get_subsystems");
  for (const Json& subsystem : subsystems) {
    if (subsystem["subtype"] != "NVMe" || subsystem["nqn"] == Nqn(kOperators)) continue;
    auto& volumes = model[subsystem["nqn"]];
    for (const Json& ns : subsystem["namespaces"]) volumes[ns["uuid"]] = limits[ns["uuid"]];
  }
  return model;
}

SweepFixture::Model SweepFixture::InRecord() {
  Model model;
  for (const record::Device& device : core_->record().Devices()) {
    auto& volumes = model[device.params.nvmf_tcp().subnqn()];
    for (const record::Volume& volume : core_->record().VolumesOf(device.handle)) {
      std::optional<QosLimit> limits = core_->record().FindLimits(volume.id);
      volumes[volume.id.ToString()] = limits ? limits->rw_iops() * kIopsStep : 0;
    }
  }
  return model;
}

bool SweepFixture::IsSettled() {
  for (const record::Device& device : core_->record().Devices()) {
    if (device.state != record::DeviceState::kReady) return false;
  }
  for (const record::Volume& volume : core_->record().Volumes()) {
    if (volume.state != record::VolumeState::kAttached) return false;
  }
  return true;
}

Verdict SweepFixture::Judge(const Operation& operation, const std::optional<absl::Status>& status) {
  const bool succeeded = status && status->ok();
  std::vector<Model> allowed;
  // A removal that failed is finished later, if it got as far as being written down.
  if (!status || succeeded || operation.removes) allowed.push_back(operation.after);
  if (!succeeded) allowed.push_back(operation.before);
  auto good = [&] {
    const Model there = OnTarget();
    return IsSettled() && InRecord() == there &&
           std::count(allowed.begin(), allowed.end(), there) > 0;
  };
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!good() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (OperatorsThings() != operators_things_) return Verdict::kHarmed;
  if (good()) return Verdict::kGood;
  const Model there = OnTarget();
  const bool whole = std::any_of(allowed.begin(), allowed.end(),
                                 [&](const Model& wanted) { return Includes(there, wanted); });
  return whole ? Verdict::kLeaked : Verdict::kLost;
}

void SweepFixture::Conclude(const Operation& operation, const std::optional<absl::Status>& status,
                            const std::string& where) {
  const Verdict verdict = Judge(operation, status);
  tally_.Add(operation.name, verdict);
  EXPECT_EQ(static_cast<int>(verdict), static_cast<int>(Verdict::kGood))
      << operation.name << ", " << where << ", answer "
      << (status ? status->ToString() : std::string("none")) << "\n"
      << target_.Dump();
}

void SweepFixture::PrintTable(const std::string& title) {
  std::cout << title << "\n" << tally_.Text() << std::flush;
}

}  // namespace sma::core
