// SPDX-License-Identifier: Apache-2.0

// Executes the steps of a world.

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <thread>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "worlds/step_words.h"
#include "worlds/world.h"

namespace sma::worlds {

using std::chrono::milliseconds;

namespace {

constexpr int kSomeDevice = -1;

StepFault FaultOf(const std::string& name) {
  static const std::map<std::string, StepFault> kFaults{
      {"refuse", StepFault::kRefuse}, {"notsent", StepFault::kNotSent},
      {"drop", StepFault::kDropCall}, {"lose", StepFault::kLoseAnswer},
      {"hang", StepFault::kHang},     {"late", StepFault::kLate}};
  return kFaults.at(name);
}

}  // namespace

bool World::Step(const std::string& line) {
  Words words = absl::StrSplit(line, ' ', absl::SkipEmpty());
  const std::string verb = words.front();
  if (verb != "expect") answers_.clear();
  bool may_die = false;
  if (verb == "die" || verb == "fault") {
    may_die = verb == "die";
    const size_t taken = may_die ? 2 : 3;
    {
      base::MutexLock lock(mutex_);
      steps_ = 0;
      (may_die ? die_at_ : fault_at_) = static_cast<uint64_t>(NumberAt(words, 1));
      if (!may_die) fault_ = FaultOf(words[2]);
    }
    words.erase(words.begin(), words.begin() + static_cast<ptrdiff_t>(taken));
    RunCalls(words, may_die);
  } else if (verb == "op") {
    OperatorStep(words);
  } else if (verb == "restart") {
    Restart(WordAt(words, 1));
  } else if (verb == "busy") {
    busy_.insert(UuidOf(NumberAt(words, 1)));
    target_->SetBusy(busy_);
  } else if (verb == "compare") {
    host_->Compare();
    WaitUntilQuiet();
  } else if (verb == "expect") {
    Expect(words);
    return problems_.empty();
  } else if (verb == "late") {
    target_->DoLate();
  } else if (verb == "down" || verb == "hang" || verb == "up" || verb == "vanish" ||
             verb == "appear" || verb == "swap") {
    StorageStep(words);
  } else {
    {
      base::MutexLock lock(mutex_);
      steps_ = 0;
    }
    RunCalls(words, may_die);
  }
  CheckRules();
  return problems_.empty();
}

void World::RunCalls(const Words& words, bool may_die) {
  std::vector<Call> calls;
  for (absl::string_view text : absl::StrSplit(absl::StrJoin(words, " "), '|')) {
    const Words parts = absl::StrSplit(text, ' ', absl::SkipEmpty());
    Call call{.verb = parts.at(0), .device = 0, .volume = 0, .how = "", .limit = 0};
    const bool is_device_first =
        call.verb == "create" || call.verb == "delete" || call.verb == "adopt";
    call.device = NumberAt(parts, is_device_first ? 1 : 2);
    call.volume = NumberAt(parts, is_device_first ? 2 : 1);
    if (call.verb == "qos") {
      call.limit = static_cast<uint64_t>(NumberAt(parts, 3));
    } else {
      call.how = WordAt(parts, 3);
    }
    calls.push_back(std::move(call));
  }
  for (const Call& call : calls) PrepareAdoption(call, /*begins=*/true, false);
  const std::set<int> live = LiveVolumes();
  SetAttached(!may_die);
  answers_.resize(calls.size());
  if (calls.size() == 1) {
    answers_[0] = Invoke(calls[0]);
  } else {
    std::vector<std::thread> threads;
    for (size_t i = 0; i < calls.size(); ++i) {
      threads.emplace_back([&, i] { answers_[i] = Invoke(calls[i]); });
    }
    for (std::thread& thread : threads) thread.join();
  }
  bool died = false;
  {
    base::MutexLock lock(mutex_);
    last_steps_ = steps_;
    died = may_die && died_;
  }
  if (may_die) host_->Crash();
  {
    base::MutexLock lock(mutex_);
    die_at_ = fault_at_ = 0;
    died_ = false;
  }
  const bool is_clear = !died && calls.size() == 1;
  const bool is_again = volumes_[calls[0].volume].is_attached == Known::kYes;
  // An existing device may have been adopted before the call failed.
  const bool may_be_adopted =
      calls[0].verb == "create" && !answers_[0].ok() && IsAdoptable(calls[0].device);
  if (is_clear && !may_be_adopted) {
    RecordAnswer(calls[0], answers_[0]);
  } else {
    // The order of concurrent calls is unknown: those that may remove something are processed
    // first.
    for (const bool removes : {true, false}) {
      for (const Call& call : calls) {
        if (MayRemove(call) == removes) RecordUnknown(call);
      }
    }
  }
  // First the calls that succeeded, any of which may have adopted what the others only requested.
  for (const bool succeeded : {true, false}) {
    for (size_t i = 0; i < calls.size(); ++i) {
      const bool has_succeeded = answers_[i].ok() && !died;
      if (has_succeeded == succeeded) PrepareAdoption(calls[i], /*begins=*/false, succeeded);
    }
  }
  if (may_die) {
    host_->Open();
    WaitUntilServing(milliseconds(300));
    WaitUntilQuiet();
    RecordFinished(calls);
  }
  std::set<int> touched;
  for (const Call& call : calls) {
    touched.insert(call.volume);
    for (const auto& [number, volume] : volumes_) {
      if (call.verb == "delete" && volume.device == call.device) touched.insert(number);
    }
  }
  const std::set<int> still_live = LiveVolumes();
  for (int volume : live) {
    if (!still_live.contains(volume) && !touched.contains(volume)) {
      Problem(fmt::format("{} removed volume {}", absl::StrJoin(words, " "), volume));
    }
  }
  if (is_clear && answers_[0].ok()) CheckAnswers(calls[0], is_again);
}

// Executes "expect CODE...": checks that the last calls were answered with one of these codes;
// "error" stands for any code except OK.
void World::Expect(const Words& words) {
  for (const absl::Status& answer : answers_) {
    bool is_right = false;
    for (size_t i = 1; i < words.size(); ++i) {
      is_right |= words[i] == absl::StatusCodeToString(answer.code());
      is_right |= words[i] == "error" && !answer.ok();
    }
    if (!is_right) Problem("answer: " + answer.ToString());
  }
}

// Waits for background work after a call, that is, until the agent sends no more requests to the
// target.
void World::WaitUntilQuiet() {
  constexpr milliseconds kQuiet{4};
  const auto end = std::chrono::steady_clock::now() + milliseconds(300);
  uint64_t calls = target_->calls();
  auto since = std::chrono::steady_clock::now();
  while (true) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    const auto now = std::chrono::steady_clock::now();
    if (target_->calls() != calls) {
      calls = target_->calls();
      since = now;
    }
    if (now - since > kQuiet || now > end) return;
  }
}

// Tells the simulated target which volumes the hosts use. After faults a device may be exposed to
// hosts without the volumes that could not be attached.
void World::SetAttached(bool is_strict) {
  bool is_checked = options_.checks_exposure;
  {
    base::MutexLock lock(mutex_);
    had_faults_ |= !is_strict || fault_at_ != 0;
    is_checked &= !had_faults_;
  }
  target_->With([&](SimSpdk& spdk) {
    spdk.attached.clear();
    for (const auto& [number, volume] : volumes_) {
      const bool is_known = number != 0 && volume.is_attached == Known::kYes;
      if (is_known && is_checked) spdk.attached[NqnOf(volume.device)].insert(UuidOf(number));
    }
  });
}

// Returns the volumes that hosts use now.
std::set<int> World::LiveVolumes() {
  return target_->With([this](SimSpdk& spdk) {
    std::set<int> live;
    for (const auto& [number, volume] : volumes_) {
      if (number == 0 || volume.is_attached != Known::kYes || IsVhost(volume.device)) continue;
      auto subsystem = spdk.subsystems.find(NqnOf(volume.device));
      if (subsystem == spdk.subsystems.end()) continue;
      for (const auto& [nsid, ns] : subsystem->second.namespaces) {
        if (ns.uuid == UuidOf(number)) live.insert(number);
      }
    }
    return live;
  });
}

absl::Status World::Invoke(const Call& call) {
  const base::Context context = base::Context::Background();
  api::Agent& agent = host_->agent();
  const std::string handle = HandleOf(call.device);
  if (call.verb == "create") {
    CreateDeviceRequest request = DeviceRequest(call.device);
    if (call.volume != 0) *request.mutable_volume() = VolumeRequest(call.volume, call.how);
    return agent.CreateDevice(context, request).status();
  }
  if (call.verb == "delete") {
    DeleteDeviceRequest request;
    request.set_handle(handle);
    return agent.DeleteDevice(context, request).status();
  }
  if (call.verb == "attach") {
    AttachVolumeRequest request;
    request.set_device_handle(handle);
    *request.mutable_volume() = VolumeRequest(call.volume, call.how);
    return agent.AttachVolume(context, request).status();
  }
  if (call.verb == "detach") {
    DetachVolumeRequest request;
    request.set_device_handle(handle);
    request.set_volume_id(VolumeId(call.volume));
    return agent.DetachVolume(context, request).status();
  }
  if (call.verb == "qos") {
    SetQosRequest request;
    request.set_device_handle(handle);
    request.set_volume_id(VolumeId(call.volume));
    request.mutable_maximum()->set_rw_iops(call.limit);
    return agent.SetQos(context, request).status();
  }
  if (call.verb == "adopt") {
    // Only objects that an agent created are adopted.
    if (!IsAdoptable(call.device)) return absl::FailedPreconditionError("not a device");
    auto candidates = host_->admin().ListAdoptionCandidates(context, {});
    if (!candidates.ok()) return candidates.status();
    admin::v1::AdoptDeviceRequest request;
    request.set_handle(handle);
    bool is_candidate = false;
    for (const auto& candidate : candidates->candidates()) {
      if (candidate.handle() != handle) continue;
      is_candidate = true;
      for (const auto& volume : candidate.volumes()) request.add_volume_ids(volume.volume_id());
    }
    if (!is_candidate) return absl::NotFoundError("not a candidate");
    return host_->admin().AdoptDevice(context, request).status();
  }
  throw std::invalid_argument("no such step: " + call.verb);
}

// Updates the expected state according to an answer.
void World::RecordAnswer(const Call& call, const absl::Status& status) {
  DeviceState& device = devices_[call.device];
  VolumeState& volume = volumes_[call.volume];
  const bool here = volume.device == call.device;
  if (call.verb == "create" || call.verb == "attach" || call.verb == "adopt") {
    if (!status.ok()) return;  // no change
    device.is_there = Known::kYes;
    if (call.volume == 0) return;
    if (volume.is_attached == Known::kYes && !here) {
      Problem(fmt::format("volume {} was attached to a second device", call.volume));
    }
    if (volume.is_attached != Known::kYes) volume.limit = std::nullopt;
    volume.is_attached = Known::kYes;
    volume.device = call.device;
  } else if (call.verb == "detach" && here) {
    if (volume.is_attached != Known::kNo) {
      volume.is_attached = status.ok() ? Known::kNo : Known::kUnknown;
    }
  } else if (call.verb == "delete") {
    if (status.ok()) device.is_adopted = false;
    if (device.is_there != Known::kNo) {
      device.is_there = status.ok() ? Known::kNo : Known::kUnknown;
    }
    for (auto& [number, other] : volumes_) {
      if (other.device != call.device || other.is_attached == Known::kNo) continue;
      other.is_attached = status.ok() ? Known::kNo : Known::kUnknown;
    }
  } else if (call.verb == "qos" && here && volume.is_attached != Known::kNo) {
    volume.limit = status.ok() ? std::optional(call.limit) : std::nullopt;
  }
}

void World::RecordUnknown(const Call& call) {
  if (call.verb == "create" || call.verb == "delete" || call.verb == "adopt") {
    DeviceState& device = devices_[call.device];
    const bool stays = call.verb != "delete" && device.is_there == Known::kYes;
    if (!stays) device.is_there = Known::kUnknown;
  }
  for (auto& [number, volume] : volumes_) {
    const bool is_of_device = volume.device == call.device && call.verb == "delete";
    if (number != call.volume && !is_of_device) continue;
    volume.limit = std::nullopt;
    if (MayRemove(call) && volume.is_attached == Known::kYes) volume.is_attached = Known::kUnknown;
  }
  if (call.volume == 0 || (call.verb != "create" && call.verb != "attach")) return;
  VolumeState& volume = volumes_[call.volume];
  if (volume.is_attached == Known::kYes) return;
  // If the volume is attached twice, its location can no longer be derived from the calls.
  const bool is_first = volume.is_attached == Known::kNo;
  volume.device = is_first || volume.device == call.device ? call.device : kSomeDevice;
  volume.is_attached = Known::kUnknown;
  volume.limit = std::nullopt;
}

// The answer to a call that attaches a volume is unknown: an operator's earlier export of the
// volume becomes the device's if the agent reports that the volume is attached.
void World::RecordFinished(const std::vector<Call>& calls) {
  std::vector<std::string> ignored;
  const std::map<int, admin::v1::Volume> rows = VolumeRows(ignored);
  for (const Call& call : calls) {
    if (call.volume == 0 || (call.verb != "attach" && call.verb != "create")) continue;
    auto row = rows.find(call.volume);
    const bool is_attached = row != rows.end() && row->second.state() == admin::v1::STATE_READY &&
                             row->second.device_handle() == HandleOf(call.device);
    if (is_attached) PrepareAdoption(call, /*begins=*/false, /*succeeded=*/true);
  }
}

bool World::IsAdoptable(int device) {
  return target_->With([&](SimSpdk& spdk) {
    auto found = spdk.subsystems.find(NqnOf(device));
    if (found == spdk.subsystems.end() || !found->second.is_adoptable) return false;
    const auto& namespaces = found->second.namespaces;
    return std::all_of(namespaces.begin(), namespaces.end(), [&](const auto& entry) {
      auto truth = spdk.truth.find(entry.second.uuid);
      return truth != spdk.truth.end() &&
             spdk.bdevs.at(entry.second.bdev).contents == truth->second;
    });
  });
}

// While a call is running that requests a subsystem in its present form, the agent may adopt it.
void World::PrepareAdoption(const Call& call, bool begins, bool succeeded) {
  if (MayRemove(call) || call.verb == "qos") return;
  const std::string name = IsVhost(call.device) ? VhostOf(call.device) : NqnOf(call.device);
  bool is_transferred = false;
  bool may_be_transferred = false;
  target_->With([&](SimSpdk& spdk) {
    if (IsVhost(call.device) && call.volume != 0) {
      std::set<std::string>& volumes = spdk.vhost_volumes[name];
      if (!begins && succeeded) volumes.clear();
      volumes.insert(UuidOf(call.volume));
      // CreateDevice adopts a controller that has the volume's bdev and is not in use.
      auto vhost = spdk.vhosts.find(name);
      const bool is_taken =
          !begins && succeeded && vhost != spdk.vhosts.end() &&
          spdk.bdevs.contains(vhost->second.bdev) &&
          spdk.bdevs.at(vhost->second.bdev).contents == spdk.truth.at(UuidOf(call.volume));
      if (is_taken) vhost->second.owner = Owner::kAgent;
    }
    auto found = spdk.subsystems.find(name);
    if (found != spdk.subsystems.end() && found->second.owner == Owner::kOthers) {
      is_transferred = !begins && succeeded && found->second.is_adoptable;
      may_be_transferred = !begins && !succeeded && found->second.is_adoptable;
      const nvmf_tcp::DeviceParameters params = DeviceRequest(call.device).nvmf_tcp();
      std::map<std::string, Owner> hosts;
      for (const std::string& host : params.hosts()) hosts[host] = Owner::kOthers;
      bool is_equal = found->second.hosts == hosts && found->second.listeners.size() == 1 &&
                      found->second.allow_any_host == params.allow_any_host();
      is_equal = is_equal && found->second.listeners[0].first["trsvcid"] == params.trsvcid();
      found->second.is_adoptable = begins && is_equal;
    }
    // An existing namespace with the volume's own disk now belongs to the device.
    const bool has_it = !begins && succeeded && call.volume != 0 &&
                        found != spdk.subsystems.end() && found->second.owner == Owner::kAgent;
    if (has_it) spdk.Transfer(name, UuidOf(call.volume));
    if (is_transferred) {
      devices_[call.device].is_adopted = true;
      spdk.Transfer(name, call.verb == "attach" ? UuidOf(call.volume) : "");
    }
  });
  if (!(is_transferred || may_be_transferred) || call.verb == "attach") return;
  // Adds the volumes that were, or may have been, adopted with the device.
  target_->With([&](SimSpdk& spdk) {
    for (const auto& [nsid, ns] : spdk.subsystems[name].namespaces) {
      const int volume = VolumeOfUuid(ns.uuid);
      if (volume == 0) continue;
      if (!is_transferred) {
        if (volumes_[volume].is_attached == Known::kYes) continue;
        volumes_[volume] = {
            .is_attached = Known::kUnknown, .device = call.device, .limit = std::nullopt};
        continue;
      }
      volumes_[volume] = {.is_attached = Known::kYes, .device = call.device, .limit = std::nullopt};
    }
  });
}

void World::Restart(const std::string& what) {
  if (what == "target") {
    SetAttached(true);
    target_->Restart();
    WaitUntilQuiet();
  } else if (what == "agent") {
    host_->Crash();
    host_->Open();
    WaitUntilServing(milliseconds(300));
    WaitUntilQuiet();
  } else if (what == "machine" && machine_) {
    machine_->Kill();
    machine_->Start();
  }
}

}  // namespace sma::worlds
