// SPDX-License-Identifier: Apache-2.0

#include "agent/core/reconciler.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/core/admin_messages.h"
#include "jsonrpc/error.h"

namespace sma::core {

using base::MutexLock;
using std::chrono::steady_clock;

namespace {

constexpr std::chrono::seconds kReconnectTime{2};
// How long after the last write the record is checked.
constexpr std::chrono::seconds kRecordCheckPeriod{60};

std::string VersionIn(const absl::StatusOr<jsonrpc::Json>& answer) {
  if (!answer.ok() || !answer->is_object() || !answer->contains("version")) return {};
  const jsonrpc::Json& text = (*answer)["version"];
  return text.is_string() ? text.get<std::string>() : std::string();
}

}  // namespace

Reconciler::Reconciler(Core& core, std::function<void(bool, bool)> serving_changed)
    : core_(core), serving_changed_(std::move(serving_changed)) {
  core_.record->SetWritabilityObserver([this] {
    MutexLock lock(mutex_);
    record_changed_ = true;
    changed_.NotifyAll();
  });
  for (const auto& manager : core_.registry.managers()) {
    loops_.push_back(std::make_unique<TypeLoop>(core_, *manager, [this] { UpdateServing(); }));
  }
}

Reconciler::~Reconciler() { Stop(); }

void Reconciler::Start() {
  for (auto& loop : loops_) loop->Start();
  thread_ = std::thread([this] { Run(); });
}

void Reconciler::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  context_.Cancel();
  if (thread_.joinable()) thread_.join();
  for (auto& loop : loops_) loop->Stop();
}

void Reconciler::Wake(const std::string& handle) {
  std::optional<record::Device> row = core_.record->FindDevice(handle);
  if (!row) return;
  for (auto& loop : loops_) {
    if (loop->manager().name() == row->manager) loop->Wake(handle);
  }
}

void Reconciler::OnConnect() {
  MutexLock lock(mutex_);
  connected_ = to_begin_ = woken_ = true;
  connected_at_ = steady_clock::now();
  connection_changed_ = answers_since_ = std::chrono::system_clock::now();
  changed_.NotifyAll();
}

void Reconciler::OnDisconnect(const absl::Status& reason) {
  {
    MutexLock lock(mutex_);
    connection_changed_ = std::chrono::system_clock::now();
    was_lost_ |= connected_;
    if (connected_ && hung_.ok()) answers_since_ = connection_changed_;
    if (connected_) disconnected_at_ = steady_clock::now();
    connected_ = false;
    hung_ = absl::OkStatus();
    target_error_ = {reason.code(), std::string(reason.message()), connection_changed_};
  }
  for (auto& loop : loops_) loop->OnDisconnect();
  UpdateServing();
}

void Reconciler::OnConnectFailed(const absl::Status& reason) {
  MutexLock lock(mutex_);
  const std::string message =
      fmt::format("no connection to the target at {}: {}", core_.options.target_socket,
                  std::string(reason.message()));
  if (connected_ || target_error_.message == message) return;
  target_error_ = {absl::StatusCode::kUnavailable, message, std::chrono::system_clock::now()};
}

// A target that is restarted is back within kReconnectTime, and calls wait for it that long.
absl::Status Reconciler::TargetStatus() const {
  MutexLock lock(mutex_);
  if (connected_ || steady_clock::now() < disconnected_at_ + kReconnectTime) return hung_;
  return absl::UnavailableError(WhySilent());
}

Reconciler::TargetFact Reconciler::Target() const {
  MutexLock lock(mutex_);
  std::string why = WhySilent();
  return {.answers = why.empty(),
          .message = std::move(why),
          .since = answers_since_,
          .is_first = !was_lost_};
}

TypeLoop::Comparison Reconciler::ComparisonOf(const std::string& manager, bool is_remote) const {
  const uint64_t generation = core_.target.generation();
  for (const auto& loop : loops_) {
    if (loop->manager().name() == manager) return loop->comparison(generation, is_remote);
  }
  return {};
}

void Reconciler::Run() {
  const bool is_periodic = core_.options.health_period > std::chrono::nanoseconds(0);
  base::TimePoint next = base::TimePoint::max();
  while (true) {
    uint64_t generation = 0;
    bool connected = false;
    bool to_begin = false;
    {
      MutexLock lock(mutex_);
      while (!stopping_ && !record_changed_ && !(connected_ && woken_) &&
             steady_clock::now() < next) {
        changed_.WaitUntil(mutex_, next);
      }
      if (stopping_) return;
      connected = connected_;
      if (connected) woken_ = false;
      if (std::exchange(record_changed_, false)) LogRecord();
      to_begin = connected && std::exchange(to_begin_, false);
      generation = core_.target.generation();
    }
    if (connected) Probe(generation);
    if (to_begin) BeginLoops(generation);
    const bool is_writable = CheckRecord();
    DropOldLimits();
    UpdateServing();
    const auto now = steady_clock::now();
    next = is_periodic ? now + core_.options.health_period : base::TimePoint::max();
    if (!is_writable && !is_periodic) next = now + core_.options.min_retry_pause;
    MutexLock lock(mutex_);
    // After max_start_wait, serving begins without a device type that is slow.
    if (connected_ && !serving_ && hung_.ok()) {
      next = std::min(next, std::max(now + core_.options.min_retry_pause,
                                     connected_at_ + core_.options.max_start_wait));
    }
  }
}

// An error response also shows that the target answers: a target need not report its version.
void Reconciler::Probe(uint64_t generation) {
  const auto start = std::chrono::system_clock::now();
  const base::Context context = context_.Child(steady_clock::now() + core_.options.max_silence);
  const absl::StatusOr<jsonrpc::Json> answer =
      core_.target.Call(context, "spdk_get_version", jsonrpc::Json());
  const bool is_answer = answer.ok() || jsonrpc::GetTargetError(answer.status());
  const bool is_silent = absl::IsDeadlineExceeded(answer.status()) && !context_.done();
  MutexLock lock(mutex_);
  if (core_.target.generation() != generation || !connected_) return;
  if (is_answer) {
    if (!hung_.ok()) {
      spdlog::info("target: answering again");
      answers_since_ = std::chrono::system_clock::now();
    }
    hung_ = absl::OkStatus();
    target_version_ = VersionIn(answer);
  } else if (is_silent && hung_.ok()) {
    hung_ = absl::UnavailableError(
        fmt::format("the target is connected, but has not answered since {:%Y-%m-%dT%H:%M:%SZ}",
                    fmt::gmtime(std::chrono::system_clock::to_time_t(start))));
    target_error_ = {hung_.code(), std::string(hung_.message()), std::chrono::system_clock::now()};
    answers_since_ = start;
    was_lost_ = true;
    spdlog::warn("{}", target_error_.message);
  }
}

void Reconciler::BeginLoops(uint64_t generation) {
  for (auto& loop : loops_) loop->Begin(generation);
  ReportUnservedDevices();
}

// Sets the last error of devices whose type is not enabled.
void Reconciler::ReportUnservedDevices() {
  auto make = [this] {
    record::Change change;
    for (const record::Device& row : core_.record->Devices()) {
      const absl::Status status = ManagerOf(core_, row).status();
      if (!status.ok() && row.last_error.message != status.message()) {
        change.put_devices.push_back(WithError(row, status));
      }
    }
    return change;
  };
  core_.record->Update(make, record::Durability::kProcess).IgnoreError();
}

void Reconciler::DropOldLimits() {
  const auto oldest = std::chrono::system_clock::now() -
                      std::chrono::duration_cast<record::Time::duration>(core_.options.keep_limits);
  // Reads first, without waiting for the turn to write, because usually there are no such limits.
  const size_t max_count = core_.options.max_kept_limits;
  if (core_.record->LimitsDetachedBefore(oldest, max_count).empty()) return;
  auto make = [&] {
    record::Change change;
    change.remove_limits = core_.record->LimitsDetachedBefore(oldest, max_count);
    return change;
  };
  core_.record->Update(make, record::Durability::kProcess).IgnoreError();
}

bool Reconciler::CheckRecord() {
  const record::Record::Writability record = core_.record->writability();
  const bool is_recent = steady_clock::now() < record.checked + kRecordCheckPeriod;
  return (record.status.ok() && is_recent) || core_.record->CheckWritable().ok();
}

void Reconciler::LogRecord() const {
  const absl::Status status = core_.record->writability().status;
  if (status.ok()) {
    spdlog::info("record: it can be written again");
  } else {
    spdlog::error("record: calls that change anything fail until it can be written again: {}",
                  std::string(status.message()));
  }
}

bool Reconciler::IsStarted(uint64_t generation) const {
  if (steady_clock::now() - connected_at_ >= core_.options.max_start_wait) return true;
  return std::all_of(loops_.begin(), loops_.end(),
                     [&](const auto& loop) { return loop->IsLocalDone(generation); });
}

void Reconciler::UpdateServing() {
  MutexLock serving_lock(serving_mutex_);
  bool target_serving = false;
  bool serving = false;
  {
    MutexLock lock(mutex_);
    const uint64_t generation = core_.target.generation();
    target_serving = connected_ && hung_.ok() && generation != 0 && !to_begin_ &&
                     (serving_ || IsStarted(generation));
    serving = target_serving && core_.record->writability().status.ok();
    if (serving_ == target_serving && reported_serving_ == serving) return;
    serving_ = target_serving;
    reported_serving_ = serving;
  }
  if (serving_changed_) serving_changed_(serving, target_serving);
}

std::string Reconciler::WhySilent() const {
  if (connected_) return std::string(hung_.message());
  return target_error_.message.empty() ? "the target has not been connected yet"
                                       : target_error_.message;
}

std::string Reconciler::WhyNotServing() const {
  if (reported_serving_) return {};
  if (std::string why = WhySilent(); !why.empty()) return why;
  const absl::Status record = core_.record->writability().status;
  return serving_ && !record.ok() ? std::string(record.message())
                                  : "the record is being compared with the target";
}

void Reconciler::FillStatus(admin::v1::Status& status) const {
  MutexLock lock(mutex_);
  SetTime(started_, *status.mutable_started());
  status.set_serving(reported_serving_);
  status.set_not_serving_reason(WhyNotServing());
  admin::v1::Status::Target& target = *status.mutable_target();
  target.set_connected(connected_);
  SetTime(connection_changed_, *target.mutable_since());
  target.set_version(target_version_);
  uint64_t generation = core_.target.generation();
  target.set_reconnects(generation == 0 ? 0 : generation - 1);
  if (target_error_.code != absl::StatusCode::kOk) {
    SetError(target_error_, *target.mutable_last_error());
  }
  const record::Record::Writability writability = core_.record->writability();
  admin::v1::Status::Record& record = *status.mutable_record();
  record.set_writable(writability.status.ok());
  SetTime(writability.since, *record.mutable_since());
  if (!writability.status.ok()) {
    SetError({.code = writability.status.code(),
              .message = std::string(writability.status.message()),
              .time = writability.since},
             *record.mutable_error());
  }
  admin::v1::Status::Restore& restore = *status.mutable_restore();
  for (const auto& loop : loops_) {
    const TypeLoop::Progress progress = loop->progress();
    restore.set_active(restore.active() || progress.is_active);
    restore.set_total(restore.total() + progress.total);
    restore.set_done(restore.done() + progress.done);
    restore.set_failed(restore.failed() + progress.failed);
    if (const absl::Status error = loop->error(); !error.ok()) {
      admin::v1::Status::DeviceType& type = *status.add_failed_device_types();
      type.set_name(std::string(loop->manager().name()));
      type.set_reason(std::string(error.message()));
    }
  }
}

}  // namespace sma::core
