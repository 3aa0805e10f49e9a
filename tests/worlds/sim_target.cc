// SPDX-License-Identifier: Apache-2.0

#include "worlds/sim_target.h"

#include <fmt/format.h>

#include <algorithm>

#include "agent/spdk/json_read.h"
#include "jsonrpc/error.h"

namespace sma::worlds {

using base::MutexLock;
using jsonrpc::Json;
using jsonrpc::Request;

namespace {

constexpr size_t kMaxLog = 400;

absl::Status LostWithFateUnknown() {
  return jsonrpc::WithFateUnknown(absl::UnavailableError("the connection to the target was lost"));
}

}  // namespace

std::vector<absl::StatusOr<Json>> SimTarget::CallMany(const base::Context& context,
                                                      std::span<const Request> requests) {
  std::vector<absl::StatusOr<Json>> results;
  if (absl::Status status = context.status(); !status.ok()) {
    return std::vector<absl::StatusOr<Json>>(requests.size(), status);
  }
  std::set<size_t> unanswered;
  std::function<void(uint64_t)> on_connect;
  uint64_t reconnected_as = 0;
  bool is_patient = false;
  std::vector<size_t> stuck;
  std::chrono::milliseconds waited{0};
  {
    MutexLock lock(mutex_);
    ++round_trips_;
    spdk_.Advance();
    is_patient = is_patient_;
    std::optional<StepFault> lost;
    for (const Request& request : requests) {
      StepFault fault = plan_ && !lost ? plan_() : StepFault::kNone;
      if (!lost && fault == StepFault::kNone && IsStuck(request)) {
        stuck.push_back(results.size());
        results.push_back(absl::DeadlineExceededError("deadline exceeded"));
        continue;
      }
      if (is_hung_ || WouldHang(request)) fault = StepFault::kLate;
      if (is_patient_ && fault == StepFault::kNone) waited = std::max(waited, WaitOf(request));
      ++calls_;
      if (lost) {
        const bool is_known = *lost == StepFault::kNotSent;
        if (!is_known && request.method == "nvmf_subsystem_add_ns") {
          spdk_.MarkIndistinct(request.params);
        }
        results.push_back(is_known ? absl::UnavailableError("not connected to the target")
                                   : LostWithFateUnknown());
        // Requests sent together with a call whose answer was lost are also executed.
        if (*lost == StepFault::kLoseAnswer) Execute(request).IgnoreError();
        continue;
      }
      switch (fault) {
        case StepFault::kNone:
          results.push_back(Execute(request));
          break;
        case StepFault::kRefuse:
          results.push_back(SimError(jsonrpc::kInternalError, "Internal error"));
          break;
        case StepFault::kNotSent:
          lost = fault;
          results.push_back(absl::UnavailableError("not connected to the target"));
          break;
        case StepFault::kLoseAnswer:
          Execute(request).IgnoreError();
          [[fallthrough]];
        case StepFault::kDropCall:
          lost = fault;
          results.push_back(LostWithFateUnknown());
          break;
        case StepFault::kHang:
          Execute(request).IgnoreError();
          [[fallthrough]];
        case StepFault::kLate:
          if (fault == StepFault::kLate) {
            if (request.method == "nvmf_subsystem_add_ns") spdk_.MarkIndistinct(request.params);
            late_.push_back({request, RemovedBdev(request), jsonrpc::CallScope::Current()});
          }
          unanswered.insert(results.size());
          results.push_back(absl::DeadlineExceededError("deadline exceeded"));
          break;
      }
    }
    if (lost) {
      reconnected_as = ++generation_;
      on_connect = on_connect_;
    }
  }
  if (on_connect) on_connect(reconnected_as);
  for (size_t i : stuck) results[i] = FinishStuck(context, requests[i]);
  if (waited.count() > 0) {
    const base::TimePoint end = std::chrono::steady_clock::now() + waited;
    if (absl::Status status = context.SleepUntil(end); !status.ok()) {
      for (auto& result : results) result = jsonrpc::WithFateUnknown(status);
      return results;
    }
  }
  absl::Status ended = absl::DeadlineExceededError("deadline exceeded");
  if (!unanswered.empty() && is_patient) ended = context.SleepUntil(base::TimePoint::max());
  for (size_t i : unanswered) results[i] = jsonrpc::WithFateUnknown(ended);
  return results;
}

// Answers after the I/O has ended, for example because its controller was detached.
absl::StatusOr<Json> SimTarget::FinishStuck(const base::Context& context, const Request& request) {
  constexpr std::chrono::milliseconds kPollInterval{2};
  while (true) {
    absl::Status status = context.SleepUntil(std::chrono::steady_clock::now() + kPollInterval);
    MutexLock lock(mutex_);
    if (!status.ok()) {
      late_.push_back({request, RemovedBdev(request), jsonrpc::CallScope::Current()});
      return jsonrpc::WithFateUnknown(status);
    }
    if (!IsStuck(request)) return Execute(request);
  }
}

// Returns how long a patient target waits for a bdev that does not exist.
std::chrono::milliseconds SimTarget::WaitOf(const Request& request) {
  if (request.method != "bdev_get_bdevs" || !request.params.is_object()) return {};
  spdk_.FinishDiscovery();
  const std::string name = spdk::StringMember(request.params, "name").value_or("");
  if (spdk_.FindBdev(name) != nullptr) return {};
  return std::chrono::milliseconds(spdk::UintMember(request.params, "timeout").value_or(0));
}

bool SimTarget::WouldHang(const Request& request) {
  const Json& params = request.params;
  const bool lists_all = request.method == "bdev_get_bdevs" && !params.contains("name");
  if (lists_all && spdk_.options.has_too_many_bdevs) return true;
  if (request.method == "bdev_nvme_attach_controller") {
    const NodeAddress address{.traddr = spdk::StringMember(params, "traddr").value_or(""),
                              .trsvcid = spdk::StringMember(params, "trsvcid").value_or("")};
    return spdk_.IsHanging(address);
  }
  return IsStuck(request);
}

// Returns true if the request removes a namespace with outstanding I/O on a remote without a
// connected path.
bool SimTarget::IsStuck(const Request& request) {
  const Json& params = request.params;
  const bool removes_one = request.method == "nvmf_subsystem_remove_ns";
  if (!removes_one && request.method != "nvmf_delete_subsystem") return false;
  auto subsystem = spdk_.subsystems.find(spdk::StringMember(params, "nqn").value_or(""));
  if (subsystem == spdk_.subsystems.end()) return false;
  for (const auto& [nsid, ns] : subsystem->second.namespaces) {
    if (removes_one && spdk::UintMember(params, "nsid") != nsid) continue;
    if (busy_.contains(ns.uuid) && spdk_.IsDead(ns.bdev)) return true;
  }
  return false;
}

absl::StatusOr<Json> SimTarget::Execute(const Request& request) {
  absl::StatusOr<Json> answer = spdk_.Call(Owner::kAgent, request.method, request.params);
  if (log_.size() == kMaxLog) log_.erase(log_.begin());
  log_.push_back(fmt::format("{} {} → {}", request.method, request.params.dump(),
                             answer.ok() ? "ok" : std::string(answer.status().message())));
  return answer;
}

uint64_t SimTarget::generation() const {
  MutexLock lock(mutex_);
  return generation_;
}

bool SimTarget::MayActLate(std::span<const std::string> objects,
                           std::chrono::nanoseconds /*after_loss*/) const {
  MutexLock lock(mutex_);
  return std::any_of(late_.begin(), late_.end(), [&](const Late& late) {
    return late.objects != nullptr && !jsonrpc::OnlyReads(late.request.method) &&
           std::find_first_of(objects.begin(), objects.end(), late.objects->begin(),
                              late.objects->end()) != objects.end();
  });
}

void SimTarget::SetFaultPlan(std::function<StepFault()> plan) {
  MutexLock lock(mutex_);
  plan_ = std::move(plan);
}

void SimTarget::SetOnConnect(std::function<void(uint64_t)> on_connect) {
  MutexLock lock(mutex_);
  on_connect_ = std::move(on_connect);
}

void SimTarget::SetPatient(bool patient) {
  MutexLock lock(mutex_);
  is_patient_ = patient;
}

void SimTarget::DoLate() {
  MutexLock lock(mutex_);
  std::vector<Late> late;
  late.swap(late_);
  for (Late& one : late) {
    if (WouldHang(one.request)) {
      late_.push_back(std::move(one));
    } else if (RemovedBdev(one.request) == one.bdev) {
      Execute(one.request).IgnoreError();
    }
  }
}

// Returns the bdev whose namespace the request removes.
std::string SimTarget::RemovedBdev(const Request& request) {
  if (request.method != "nvmf_subsystem_remove_ns") return "";
  auto subsystem = spdk_.subsystems.find(spdk::StringMember(request.params, "nqn").value_or(""));
  if (subsystem == spdk_.subsystems.end()) return "";
  const auto nsid = static_cast<uint32_t>(spdk::UintMember(request.params, "nsid").value_or(0));
  auto ns = subsystem->second.namespaces.find(nsid);
  return ns == subsystem->second.namespaces.end() ? "" : ns->second.bdev;
}

void SimTarget::Restart() {
  std::function<void(uint64_t)> on_connect;
  uint64_t generation = 0;
  {
    MutexLock lock(mutex_);
    late_.clear();
    spdk_.Restart();
    generation = ++generation_;
    on_connect = on_connect_;
  }
  if (on_connect) on_connect(generation);
}

void SimTarget::SetHung(bool hung) {
  {
    MutexLock lock(mutex_);
    is_hung_ = hung;
  }
  if (!hung) DoLate();
}

absl::StatusOr<Json> SimTarget::Operator(const std::string& method, Json params) {
  MutexLock lock(mutex_);
  return spdk_.Call(Owner::kOthers, method, params);
}

void SimTarget::SetBusy(std::set<std::string> uuids) {
  MutexLock lock(mutex_);
  busy_ = std::move(uuids);
}

uint64_t SimTarget::calls() const {
  MutexLock lock(mutex_);
  return calls_;
}

uint64_t SimTarget::round_trips() const {
  MutexLock lock(mutex_);
  return round_trips_;
}

std::vector<std::string> SimTarget::log() const {
  MutexLock lock(mutex_);
  return log_;
}

}  // namespace sma::worlds
