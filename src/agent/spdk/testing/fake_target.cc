// SPDX-License-Identifier: Apache-2.0

#include "agent/spdk/testing/fake_target.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "jsonrpc/error.h"

namespace sma::spdk {

using base::MutexLock;
using jsonrpc::Json;
using jsonrpc::Request;

absl::Status FakeError(int code, std::string_view message) {
  return jsonrpc::TargetErrorStatus("fake", {code, std::string(message)});
}

absl::Status FakeInvalidParameters() {
  return FakeError(jsonrpc::kInvalidParams, "Invalid parameters");
}

absl::Status FakeDecodeFailed() {
  return FakeError(jsonrpc::kInternalError, "spdk_json_decode_object failed");
}

FakeTarget::FakeTarget() {
  MutexLock lock(mutex_);
  Reset();
}

const std::map<std::string, FakeTarget::Handler>& FakeTarget::Handlers() {
  static const auto* const handlers = new std::map<std::string, Handler>{
      {"accel_crypto_key_create", &FakeTarget::CreateCryptoKey},
      {"accel_crypto_key_destroy", &FakeTarget::DestroyCryptoKey},
      {"accel_crypto_keys_get", &FakeTarget::GetCryptoKeys},
      {"bdev_crypto_create", &FakeTarget::CreateCryptoBdev},
      {"bdev_crypto_delete", &FakeTarget::DeleteCryptoBdev},
      {"bdev_get_bdevs", &FakeTarget::GetBdevs},
      {"bdev_iscsi_create", &FakeTarget::CreateIscsiBdev},
      {"bdev_iscsi_delete", &FakeTarget::DeleteIscsiBdev},
      {"bdev_malloc_create", &FakeTarget::CreateMallocBdev},
      {"bdev_malloc_delete", &FakeTarget::DeleteBdev},
      {"bdev_null_create", &FakeTarget::CreateNullBdev},
      {"bdev_null_delete", &FakeTarget::DeleteBdev},
      {"bdev_nvme_attach_controller", &FakeTarget::AttachController},
      {"bdev_nvme_detach_controller", &FakeTarget::DetachController},
      {"bdev_nvme_get_controllers", &FakeTarget::GetControllers},
      {"bdev_nvme_get_discovery_info", &FakeTarget::GetDiscoveryInfo},
      {"bdev_nvme_start_discovery", &FakeTarget::StartDiscovery},
      {"bdev_nvme_stop_discovery", &FakeTarget::StopDiscovery},
      {"bdev_set_qos_limit", &FakeTarget::SetQosLimit},
      {"notify_get_notifications", &FakeTarget::GetNotifications},
      {"nvmf_create_subsystem", &FakeTarget::CreateSubsystem},
      {"nvmf_create_transport", &FakeTarget::CreateTransport},
      {"nvmf_delete_subsystem", &FakeTarget::DeleteSubsystem},
      {"nvmf_get_subsystems", &FakeTarget::GetSubsystems},
      {"nvmf_get_transports", &FakeTarget::GetTransports},
      {"nvmf_subsystem_add_host", &FakeTarget::AddHost},
      {"nvmf_subsystem_add_listener", &FakeTarget::AddListener},
      {"nvmf_subsystem_add_ns", &FakeTarget::AddNamespace},
      {"nvmf_subsystem_allow_any_host", &FakeTarget::AllowAnyHost},
      {"nvmf_subsystem_get_controllers", &FakeTarget::GetHostControllers},
      {"nvmf_subsystem_get_listeners", &FakeTarget::GetListeners},
      {"nvmf_subsystem_remove_host", &FakeTarget::RemoveHost},
      {"nvmf_subsystem_remove_listener", &FakeTarget::RemoveListener},
      {"nvmf_subsystem_remove_ns", &FakeTarget::RemoveNamespace},
      {"spdk_get_version", &FakeTarget::GetVersion},
      {"vhost_create_blk_controller", &FakeTarget::CreateVhostBlk},
      {"vhost_delete_controller", &FakeTarget::DeleteVhostController},
      {"vhost_get_controllers", &FakeTarget::GetVhostControllers},
  };
  return *handlers;
}

void FakeTarget::Reset() {
  bdevs_.clear();
  subsystems_.clear();
  vhost_controllers_.clear();
  transports_.clear();
  crypto_names_.clear();
  crypto_keys_.clear();
  discovery_services_.clear();
  controllers_.clear();
  late_.clear();
  events_.clear();
  noted_bdevs_.clear();
  next_event_id_ = 0;
  Subsystem discovery;
  discovery.is_discovery = true;
  discovery.allow_any_host = true;
  subsystems_.emplace("nqn.2014-08.org.nvmexpress.discovery", discovery);
}

FakeTarget::Answer FakeTarget::GetVersion(const Json& /*params*/) {
  return Json{{"version", "SPDK v26.09-pre (fake)"}};
}

std::vector<absl::StatusOr<Json>> FakeTarget::CallMany(const base::Context& context,
                                                       std::span<const Request> requests) {
  if (absl::Status status = context.status(); !status.ok()) {
    return std::vector<absl::StatusOr<Json>>(requests.size(), status);
  }
  Exchange exchange;
  {
    MutexLock lock(mutex_);
    exchange = Exchanged(context, requests);
  }
  if (exchange.reconnected_as != 0 && exchange.on_connect) {
    exchange.on_connect(exchange.reconnected_as);
  }
  WaitForNodes(context, exchange);
  const bool hangs = !exchange.unanswered.empty();
  absl::Status status = context.status();
  if (!hangs || !exchange.is_impatient) {
    status = context.SleepUntil(hangs ? base::TimePoint::max() : exchange.answered);
  } else if (status.ok()) {
    status = absl::DeadlineExceededError("deadline exceeded");
  }
  for (size_t i = 0; i < exchange.results.size() && !status.ok(); ++i) {
    const bool is_open = hangs ? exchange.unanswered.contains(i) : exchange.results[i].ok();
    if (is_open) exchange.results[i] = jsonrpc::WithFateUnknown(status);
  }
  return std::move(exchange.results);
}

// Executes the requests in `stuck` once their storage node is reachable again, if that happens
// before the end of `context`.
void FakeTarget::WaitForNodes(const base::Context& context, Exchange& exchange) {
  constexpr std::chrono::milliseconds kPeriod{2};
  while (!exchange.stuck.empty() && !exchange.is_impatient &&
         context.SleepUntil(std::chrono::steady_clock::now() + kPeriod).ok()) {
    MutexLock lock(mutex_);
    for (auto request = exchange.stuck.begin(); request != exchange.stuck.end();) {
      if (IsNeverAnswered(request->second)) {
        ++request;
        continue;
      }
      exchange.results[request->first] = Serve(context, request->second);
      request = exchange.stuck.erase(request);
    }
  }
  for (const auto& [place, request] : exchange.stuck) exchange.unanswered.insert(place);
}

FakeTarget::Exchange FakeTarget::Exchanged(const base::Context& context,
                                           std::span<const Request> requests) {
  const absl::Status unsent = absl::UnavailableError("not connected to the target");
  const absl::Status unknown =
      jsonrpc::WithFateUnknown(absl::UnavailableError("the connection to the target was lost"));
  Exchange exchange;
  if (down_) {
    exchange.results.assign(requests.size(), unsent);
    return exchange;
  }
  ++round_trip_count_;
  exchange.answered = std::chrono::steady_clock::now() + round_trip_;
  Fault ended_by = Fault::kNone;
  for (const Request& request : requests) {
    uint64_t index = call_count_++;
    methods_.push_back(request.method);
    Fault fault = fault_plan_ ? fault_plan_(index, request) : Fault::kNone;
    bool is_refusal = fault == Fault::kRefuse || fault == Fault::kBusy;
    if (ended_by == Fault::kNone && !is_refusal && fault != Fault::kLate) ended_by = fault;
    const bool is_late = fault == Fault::kLate || ended_by == Fault::kLateAll;
    bool reaches_target = ended_by != Fault::kNotSent && ended_by != Fault::kDropCall && !is_late;
    absl::StatusOr<Json> answer = unsent;
    const bool is_stuck = reaches_target && !is_refusal && IsNeverAnswered(request);
    if (is_stuck) exchange.stuck.emplace(exchange.results.size(), request);
    if (reaches_target && is_refusal) {
      answer = fault == Fault::kBusy ? FakeError(-EAGAIN, "Resource temporarily unavailable")
                                     : FakeError(jsonrpc::kInternalError, "Internal error");
    } else if (reaches_target && !is_stuck) {
      answer = Serve(context, request);
    }
    if (is_late) late_.push_back({request, jsonrpc::CallScope::Current()});
    if (is_late && late_.size() == 1) calls_until_late_ = late_after_;
    if (!is_late && !late_.empty() && calls_until_late_ > 0 && --calls_until_late_ == 0) {
      DoAllLate();
    }
    if (is_late || ended_by == Fault::kHang) exchange.unanswered.insert(exchange.results.size());
    bool answer_seen = !is_late && ended_by != Fault::kDropCall && ended_by != Fault::kLoseAnswer;
    exchange.results.push_back(answer_seen ? std::move(answer) : unknown);
  }
  exchange.is_impatient = impatient_;
  const bool is_lost =
      ended_by == Fault::kNotSent || ended_by == Fault::kDropCall || ended_by == Fault::kLoseAnswer;
  if (is_lost) {
    exchange.reconnected_as = ++generation_;
    exchange.on_connect = on_connect_;
  }
  return exchange;
}

absl::StatusOr<Json> FakeTarget::Serve(const base::Context& context, const Request& request) {
  auto handler = Handlers().find(request.method);
  if (handler == Handlers().end()) {
    return FakeError(jsonrpc::kMethodNotFound, "Method not found");
  }
  const Json params = request.params.is_null() ? Json::object() : request.params;
  if (!params.is_object()) return FakeError(jsonrpc::kInvalidRequest, "Invalid request");
  if (request.method == "bdev_get_bdevs") WaitForBdev(context, params);
  Answer answer = (this->*handler->second)(params);
  NoteEvents();
  return answer;
}

void FakeTarget::DoAllLate() {
  std::vector<LateRequest> late;
  late.swap(late_);
  if (late_reversed_) std::reverse(late.begin(), late.end());
  for (const LateRequest& call : late) {
    Serve(base::Context::Background(), call.request).IgnoreError();
  }
}

void FakeTarget::SetLate(uint64_t after_calls, bool reversed) {
  MutexLock lock(mutex_);
  late_after_ = after_calls;
  late_reversed_ = reversed;
}

void FakeTarget::DoLate() {
  MutexLock lock(mutex_);
  DoAllLate();
}

void FakeTarget::SetImpatient(bool impatient) {
  MutexLock lock(mutex_);
  impatient_ = impatient;
}

void FakeTarget::SetWaits(bool waits) {
  MutexLock lock(mutex_);
  waits_ = waits;
}

absl::StatusOr<Json> FakeTarget::Operator(std::string method, Json params) {
  MutexLock lock(mutex_);
  return Serve(base::Context::Background(), {std::move(method), std::move(params)});
}

void FakeTarget::WaitForBdev(const base::Context& context, const Json& params) {
  if (!waits_ || !params.contains("timeout") || !params.contains("name")) return;
  auto until = std::chrono::steady_clock::now() +
               std::chrono::milliseconds(params["timeout"].get<uint64_t>());
  const std::string name = params["name"].get<std::string>();
  while (FindBdev(name) == nullptr && !context.done()) {
    auto now = std::chrono::steady_clock::now();
    if (now >= until) return;
    bdevs_changed_.WaitUntil(mutex_, std::min(until, now + std::chrono::milliseconds(5)));
  }
}

uint64_t FakeTarget::generation() const {
  MutexLock lock(mutex_);
  return generation_;
}

bool FakeTarget::MayActLate(std::span<const std::string> objects,
                            std::chrono::nanoseconds /*after_loss*/) const {
  MutexLock lock(mutex_);
  return std::any_of(late_.begin(), late_.end(), [&](const LateRequest& late) {
    return late.objects != nullptr &&
           std::find_first_of(objects.begin(), objects.end(), late.objects->begin(),
                              late.objects->end()) != objects.end();
  });
}

void FakeTarget::SetFaultPlan(FaultPlan plan) {
  MutexLock lock(mutex_);
  fault_plan_ = std::move(plan);
}

void FakeTarget::SetRoundTrip(std::chrono::nanoseconds time) {
  MutexLock lock(mutex_);
  round_trip_ = time;
}

void FakeTarget::SetDown(bool down) {
  std::function<void(uint64_t)> on_connect;
  uint64_t generation = 0;
  {
    MutexLock lock(mutex_);
    if (down_ == down) return;
    down_ = down;
    if (down) return;
    generation = ++generation_;
    on_connect = on_connect_;
  }
  if (on_connect) on_connect(generation);
}

void FakeTarget::Restart() {
  SetDown(true);
  {
    MutexLock lock(mutex_);
    Reset();
  }
  SetDown(false);
}

void FakeTarget::SetOnConnect(std::function<void(uint64_t)> on_connect) {
  MutexLock lock(mutex_);
  on_connect_ = std::move(on_connect);
}

void FakeTarget::ResetCounts() {
  MutexLock lock(mutex_);
  call_count_ = 0;
  round_trip_count_ = 0;
  methods_.clear();
}

uint64_t FakeTarget::calls() const {
  MutexLock lock(mutex_);
  return call_count_;
}

uint64_t FakeTarget::round_trips() const {
  MutexLock lock(mutex_);
  return round_trip_count_;
}

std::vector<std::string> FakeTarget::methods() const {
  MutexLock lock(mutex_);
  return methods_;
}

}  // namespace sma::spdk
