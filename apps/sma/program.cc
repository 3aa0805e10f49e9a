// SPDX-License-Identifier: Apache-2.0

#include "sma/program.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "agent/config/parse.h"
#include "agent/record/sqlite_store.h"
#include "base/context.h"
#include "base/stop_signals.h"
#include "sma/encryption.h"
#include "sma/managers.h"

namespace sma::apps {
namespace {

constexpr std::chrono::seconds kTargetStartTime{10};
// The time for calls to end after they were cancelled.
constexpr std::chrono::seconds kStopGrace{1};

/// Calls a function in a thread of its own if this object still exists after `time`. If so, the
/// destructor waits for the function.
class TimeLimit {
 public:
  TimeLimit(std::chrono::nanoseconds time, std::function<void()> on_passed)
      : thread_([this, end = std::chrono::steady_clock::now() + time,
                 on_passed = std::move(on_passed)] {
          if (Wait(end)) on_passed();
        }) {}
  ~TimeLimit() {
    {
      base::MutexLock lock(mutex_);
      is_over_ = true;
      changed_.NotifyAll();
    }
    thread_.join();
  }
  TimeLimit(const TimeLimit&) = delete;
  TimeLimit& operator=(const TimeLimit&) = delete;

 private:
  // Returns false if the object is destroyed before `end`.
  bool Wait(base::TimePoint end) {
    base::MutexLock lock(mutex_);
    while (!is_over_ && changed_.WaitUntil(mutex_, end)) {
    }
    return !is_over_;
  }

  base::Mutex mutex_;
  base::CondVar changed_;
  bool is_over_ SMA_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // uses the other members
};

/// Blocks until SIGTERM or SIGINT arrives; returns its number.
int WaitForSignal() {
  const sigset_t signals = base::StopSignals();
  int signal = 0;
  while (sigwait(&signals, &signal) != 0) {
  }
  return signal;
}

}  // namespace

int AgentProgram::Run() {
  absl::Status status = Start();
  if (!status.ok()) {
    spdlog::critical("{}", std::string(status.message()));
    return StopWith(EXIT_FAILURE);
  }
  sd_notify(0, "READY=1");
  int signal = WaitForSignal();
  spdlog::info("stopping after {}", sigabbrev_np(signal));
  sd_notify(0, "STOPPING=1");
  return StopWith(EXIT_SUCCESS);
}

/// If there is a Python interpreter, which is never finalized, exits the process instead of
/// returning: the interpreter's threads must not run while the program's objects are being
/// destroyed.
///
/// Also exits if something does not end within kStopGrace after `stop_timeout`, such as a call to
/// which the target does not respond: the record has its intent, and the next start completes it or
/// rolls it back.
int AgentProgram::StopWith(int exit_status) {
  const TimeLimit limit(config_.stop_timeout + kStopGrace, [this, exit_status] {
    spdlog::warn("exiting with calls that have not ended: the next start settles them");
    StopTarget();
    std::_Exit(exit_status);
  });
  Stop();
  StopTarget();
  if (loader_ && loader_->has_python()) std::_Exit(exit_status);
  loader_.reset();
  catalog_.reset();
  decorated_client_.reset();
  client_.reset();
  return exit_status;
}

/// Opens the record first, because its lock prevents a second agent from using the target.
absl::Status AgentProgram::Start() {
  std::string folder = config_.state_dir.empty() ? config::DefaultStateDir() : config_.state_dir;
  absl::StatusOr<std::unique_ptr<record::SqliteStore>> store = record::SqliteStore::Open(folder);
  if (!store.ok()) return store.status();
  if (absl::Status status = ProtectKeys(); !status.ok()) return status;
  if (absl::Status status = StartTarget(); !status.ok()) return status;
  StartClient();
  if (absl::Status status = OpenCore(*std::move(store)); !status.ok()) return status;
  if (absl::Status status = ListenForMetrics(); !status.ok()) return status;
  if (absl::Status status = Listen(); !status.ok()) return status;
  {
    base::MutexLock lock(mutex_);
    connected_core_ = core_.get();
  }
  core_->Start();
  return absl::OkStatus();
}

/// Reads the sealing key before the target is started, because the target must not inherit the key
/// through the environment.
absl::Status AgentProgram::ProtectKeys() {
  absl::StatusOr<std::optional<base::Secret>> key = LoadSealingKey(config_.sealing_key);
  if (!key.ok()) return key.status();
  sealing_key_ = *std::move(key);
  if (sealing_key_ || config_.crypto.engine != config::Crypto().engine) base::ForbidCoreDumps();
  return absl::OkStatus();
}

absl::Status AgentProgram::StartTarget() {
  if (!config_.embedded.enabled) return absl::OkStatus();
  embedded::EmbeddedTargetOptions options;
  options.binary =
      config_.embedded.binary.empty() ? embedded::DefaultBinary() : config_.embedded.binary;
  options.socket = config_.socket;
  options.arguments = config_.embedded.arguments;
  options.log_file = config_.embedded.log_file;
  options.stop_at_end = config_.embedded.stop_with_agent;
  absl::StatusOr<std::unique_ptr<embedded::EmbeddedTarget>> target =
      embedded::EmbeddedTarget::Start(std::move(options));
  if (!target.ok()) return target.status();
  target_ = *std::move(target);
  return target_->WaitUntilListening(base::Context::WithTimeout(kTargetStartTime));
}

void AgentProgram::StartClient() {
  jsonrpc::ClientOptions options;
  options.socket_path = config_.socket;
  options.trusted_users_only = config_.embedded.enabled;
  options.on_connect = [this](uint64_t generation) {
    base::MutexLock lock(mutex_);
    if (connected_core_ != nullptr) connected_core_->OnConnect(generation);
  };
  options.on_disconnect = [this](uint64_t generation, const absl::Status& reason) {
    base::MutexLock lock(mutex_);
    if (connected_core_ != nullptr) connected_core_->OnDisconnect(generation, reason);
  };
  options.on_connect_failed = [this](const absl::Status& reason) {
    base::MutexLock lock(mutex_);
    if (connected_core_ != nullptr) connected_core_->OnConnectFailed(reason);
  };
  client_ = jsonrpc::Client::Start(std::move(options));
}

absl::StatusOr<std::vector<std::unique_ptr<DeviceManager>>> AgentProgram::MakeDeviceTypes(
    jsonrpc::Caller& target) {
  catalog_ = std::make_unique<plugin::Catalog>(target);
  loader_ = std::make_unique<plugin::Loader>(*catalog_, config_.plugin_dir);
  if (absl::Status status = FillCatalog(config_, *catalog_, *loader_); !status.ok()) return status;
  loader_->UseCryptoEngine(config_.crypto.engine);
  return MakeManagers(config_, *catalog_);
}

absl::Status AgentProgram::OpenCore(std::unique_ptr<record::Store> store) {
  core::Options options;
  options.refuse_delete_with_volumes =
      config_.attached_volumes_on_delete == config::VolumesOnDelete::kRefuse;
  options.repair_drift = config_.drift == config::Drift::kRepair;
  options.drift_period = config_.drift_period;
  options.volumes.discovery_timeout = config_.discovery_timeout;
  options.volume_cleanup_period = config_.volume_cleanup_period;
  options.detach_gone_volumes = config_.gone_volumes == config::GoneVolumes::kDetach;
  options.version = SMA_VERSION;
  options.target_socket = config_.socket;
  options.embedded_target = config_.embedded.enabled;
  if (decorators_.options) decorators_.options(options);
  if (decorators_.store) store = decorators_.store(std::move(store));
  if (decorators_.target) decorated_client_ = decorators_.target(*client_);
  jsonrpc::Caller& target = decorated_client_ ? *decorated_client_ : *client_;
  auto managers = MakeDeviceTypes(target);
  if (!managers.ok()) return managers.status();
  auto engine = MakeEngine(config_, *catalog_);
  if (!engine.ok()) return engine.status();
  options.plugins = ListPlugins(config_, *catalog_);
  auto core = core::AgentCore::Open(
      std::move(options), target, std::move(store), *std::move(managers),
      [this](bool serving) { TellServing(serving); }, *std::move(engine),
      std::exchange(sealing_key_, std::nullopt));
  if (!core.ok()) return core.status();
  core_ = *std::move(core);
  return absl::OkStatus();
}

absl::Status AgentProgram::ListenForMetrics() {
  if (!config_.metrics) return absl::OkStatus();
  auto metrics =
      metrics::Metrics::Listen(config_.metrics->address, [this] { return CollectNumbers(); });
  if (!metrics.ok()) return metrics.status();
  metrics_ = *std::move(metrics);
  spdlog::info("metrics: listening on port {}", metrics_->port());
  return absl::OkStatus();
}

absl::Status AgentProgram::Listen() {
  service::GrpcServerOptions options;
  options.address = config_.address;
  options.port = config_.port;
  options.max_calls = config_.max_calls;
  if (config_.tls) {
    options.tls = service::TlsFiles{
        .cert = config_.tls->cert, .key = config_.tls->key, .client_ca = config_.tls->client_ca};
  }
  if (metrics_) {
    options.observer = [this](std::string_view method, absl::StatusCode code,
                              std::chrono::nanoseconds latency) {
      metrics_->ObserveCall(method, code, latency);
    };
  }
  auto server = service::GrpcServer::Start(core_->agent(), core_->admin(), std::move(options));
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  return absl::OkStatus();
}

void AgentProgram::Stop() {
  if (server_) server_->Stop(config_.stop_timeout);
  if (core_) core_->Stop();
  if (client_) client_->Stop();
  // The order matters: the server's threads may still report calls to the metrics, and the metrics'
  // threads query the core.
  server_.reset();
  metrics_.reset();
  core_.reset();
}

void AgentProgram::StopTarget() {
  base::MutexLock lock(target_mutex_);
  target_.reset();
}

void AgentProgram::TellServing(bool serving) {
  server_->SetServing(serving);
  spdlog::info(serving ? "serving" : "not serving");
  std::string why;
  if (!serving) {
    auto status = core_->admin().GetStatus(base::Context::Background(), {});
    if (status.ok()) why = ": " + status->not_serving_reason();
  }
  sd_notify(0, (serving ? "STATUS=Serving" : "STATUS=Not serving" + why).c_str());
}

metrics::AgentNumbers AgentProgram::CollectNumbers() {
  metrics::AgentNumbers numbers;
  jsonrpc::ClientStats stats = client_->stats();
  numbers.target_connected = client_->connected();
  numbers.target_calls = stats.calls_sent;
  numbers.target_errors = stats.target_errors;
  numbers.target_lost = stats.given_up;
  numbers.target_connects = client_->generation();
  auto status = core_->admin().GetStatus(base::Context::Background(), {});
  if (status.ok()) {
    numbers.serving = status->serving();
    numbers.record_writable = status->record().writable();
    numbers.devices = status->device_count();
    numbers.volumes = status->volume_count();
  }
  const core::ConditionCounts counts = core_->CountConditions();
  numbers.degraded = counts.degraded;
  for (const core::ConditionCount& count : counts.conditions) {
    numbers.unmet_conditions.push_back({count.object, count.condition, count.count});
  }
  numbers.paths_up = counts.paths.up;
  numbers.paths_down = counts.paths.total - counts.paths.up;
  return numbers;
}

}  // namespace sma::apps
