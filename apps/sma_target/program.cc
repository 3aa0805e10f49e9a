// SPDX-License-Identifier: Apache-2.0

#include "sma_target/program.h"

#include <grp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "base/descriptor_limit.h"
#include "base/log.h"
#include "base/stop_signals.h"
#include "base/version.h"
#include "storage_target/rpc/bdev/bdev_nvme_rpc.h"
#include "storage_target/rpc/bdev/bdev_rpc.h"
#include "storage_target/rpc/bdev/crypto_rpc.h"
#include "storage_target/rpc/bdev/iscsi_rpc.h"
#include "storage_target/rpc/nvmf/nvmf_rpc.h"
#include "storage_target/rpc/vhost/vhost_rpc.h"
#include "storage_target/virtio/guest_socket.h"

namespace sma::apps {
namespace {

using storage_target::Reactor;

constexpr std::chrono::seconds kMaxShutdownTime(10);

jsonrpc::ServerOptions RpcSocketOptions(const TargetOptions& options) {
  jsonrpc::ServerOptions server;
  // The period is half the delay, because a call is received in one poll of the sockets and
  // answered in the next.
  server.poll_period = std::chrono::milliseconds((options.rpc_delay_ms + 1) / 2);
  const uint32_t reserve = base::JsonRpcReserve(base::DescriptorLimit());
  server.max_connections = std::clamp<size_t>(reserve, 4, server.max_connections);
  return server;
}

base::UniqueFd MakeSignalFd() {
  const sigset_t signals = base::StopSignals();
  return base::UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

}  // namespace

std::vector<std::unique_ptr<Reactor>> TargetProgram::StartReactors(const TargetOptions& options) {
  std::vector<std::unique_ptr<Reactor>> reactors;
  for (int core : options.cores) {
    int index = static_cast<int>(reactors.size());
    reactors.push_back(Reactor::Start({.index = index,
                                       .cpu = core,
                                       .poll = std::chrono::microseconds(options.poll_us),
                                       .io_uring = options.io_uring,
                                       .name = "reactor_" + std::to_string(index)}));
  }
  return reactors;
}

TargetProgram::TargetProgram(TargetOptions options)
    : options_(std::move(options)),
      control_(Reactor::ForThisThread({.index = -1,
                                       .poll = std::chrono::microseconds(0),
                                       .io_uring = options_.io_uring,
                                       .name = "control"})),
      reactors_(StartReactors(options_)),
      signal_fd_(MakeSignalFd()),
      rpc_socket_(RpcSocketOptions(options_)),
      registry_(*control_),
      nvme_(registry_, all_reactors()),
      nvmf_(*control_, io_reactors(), registry_),
      vhost_(registry_, io_reactors(), options_.vhost_dir) {
  on_signal_.action = [this] { OnSignal(); };
  on_rpc_.action = [this] { rpc_socket_.Poll(); };
  control_->Watch(signal_fd_.get(), EPOLLIN, &on_signal_);
  control_->Watch(rpc_socket_.fd(), EPOLLIN, &on_rpc_);
  RegisterMethods();
}

std::vector<Reactor*> TargetProgram::io_reactors() const {
  std::vector<Reactor*> reactors;
  for (const auto& reactor : reactors_) reactors.push_back(reactor.get());
  return reactors;
}

std::vector<Reactor*> TargetProgram::all_reactors() const {
  std::vector<Reactor*> reactors = io_reactors();
  reactors.push_back(control_.get());
  return reactors;
}

// Stops all reactors before destroying anything that they or their last messages might use.
TargetProgram::~TargetProgram() {
  for (const auto& reactor : reactors_) reactor->Stop();
}

void TargetProgram::RegisterMethods() {
  using namespace storage_target::rpc;  // NOLINT(google-build-using-namespace)
  RegisterIgnoredRpc(rpc_);
  RegisterFrameworkRpc(rpc_, init_);
  std::vector<Reactor*> reactors = io_reactors();
  RegisterReactorRpc(rpc_, {reactors.begin(), reactors.end()});
  RegisterLogRpc(rpc_);
  RegisterNotifyRpc(rpc_, notifications_);
  RegisterBdevRpc(rpc_, registry_, bdev_waiter_);
  RegisterNullBdevRpc(rpc_, registry_);
  RegisterMallocBdevRpc(rpc_, registry_);
  RegisterFileBdevRpc(rpc_, registry_);
  RegisterPassthruBdevRpc(rpc_, passthru_);
  RegisterCryptoRpc(rpc_, crypto_);
  RegisterBdevNvmeRpc(rpc_, nvme_);
  RegisterIscsiRpc(rpc_, iscsi_);
  RegisterNvmfRpc(rpc_, nvmf_);
  RegisterVhostRpc(rpc_, vhost_);
  if (!options_.rpcs_allowed.empty()) rpc_.Restrict(options_.rpcs_allowed);
}

int TargetProgram::Run() {
  if (!options_.ignored.empty()) {
    spdlog::info("these options have no effect: {}", absl::StrJoin(options_.ignored, " "));
  }
  control_->Post([this] { Begin(); });
  control_->Run();
  return exit_status_;
}

// Applies the mode and the group of the sockets for guests. Returns false if there is no such
// group.
bool TargetProgram::ApplyGuestSocketAccess() const {
  storage_target::virtio::GuestSocketAccess access{.mode = options_.guest_socket_mode};
  const std::string& group = options_.guest_socket_group;
  if (!group.empty()) {
    uint32_t number = 0;
    const struct group* found = ::getgrnam(group.c_str());
    if (found == nullptr && !absl::SimpleAtoi(group, &number)) return false;
    access.has_group = true;
    access.group = found != nullptr ? found->gr_gid : number;
  }
  storage_target::virtio::SetGuestSocketAccess(access);
  return true;
}

void TargetProgram::Begin() {
  if (!ApplyGuestSocketAccess()) {
    return Fail(absl::InvalidArgumentError("no such group: " + options_.guest_socket_group));
  }
  if (!options_.pid_file.empty()) std::ofstream(options_.pid_file) << ::getpid() << '\n';
  if (!options_.config_path.empty()) {
    auto config = storage_target::rpc::ConfigLoader::Read(rpc_, options_.config_path);
    if (!config.ok()) return Fail(config.status());
    config_ = std::move(*config);
  }
  init_.set_start([this](const std::function<void()>& done) { Initialise(done); });
  if (options_.wait_for_rpc) {
    Listen();
  } else {
    init_.Start(storage_target::rpc::Reply([](const storage_target::rpc::RpcResult&) {}));
  }
}

// First executes the calls of the configuration that belong to the start-up phase, then the others.
void TargetProgram::Initialise(const std::function<void()>& done) {
  if (!config_) return FinishInitialisation(done);
  const auto skip = [this](const absl::Status& error) { return CheckConfig(error); };
  config_->Run(
      [this, done, skip](const absl::Status& before) {
        if (!before.ok()) return;
        rpc_.set_phase(storage_target::rpc::Phase::kRuntime);
        config_->Run(
            [this, done](const absl::Status& after) {
              if (after.ok()) FinishInitialisation(done);
            },
            skip);
      },
      skip);
}

void TargetProgram::FinishInitialisation(const std::function<void()>& done) {
  config_.reset();
  init_.Finish();
  done();
  if (!options_.wait_for_rpc && !Listen()) return;
  spdlog::info("version {} is ready: {} I/O threads, files use {}", base::GetVersion().text,
               reactors_.size(), control_->uses_io_uring() ? "io_uring" : "threads");
}

bool TargetProgram::CheckConfig(const absl::Status& status) {
  if (status.ok()) return true;
  if (!options_.ignore_config_errors) {
    Fail(status);
    return false;
  }
  spdlog::error("{}: {}", options_.config_path, status.ToString());
  return true;
}

bool TargetProgram::Listen() {
  if (!options_.rpc_server) return true;
  absl::Status status = rpc_socket_.Listen(options_.rpc_socket);
  if (!status.ok()) Fail(status);
  return status.ok();
}

void TargetProgram::Fail(const absl::Status& status) {
  spdlog::critical("{}", status.ToString());
  exit_status_ = 1;
  Shutdown();
}

void TargetProgram::OnSignal() {
  signalfd_siginfo info{};
  if (::read(signal_fd_.get(), &info, sizeof(info)) != sizeof(info)) return;
  spdlog::info("stopping on signal {}", info.ssi_signo);
  Shutdown();
}

// Shuts everything down in order. Ends when that is complete, or after a timeout.
void TargetProgram::Shutdown() {
  if (std::exchange(shutting_down_, true)) return;
  control_->Unwatch(rpc_socket_.fd());
  control_->AddTimer(kMaxShutdownTime, [] {
    spdlog::critical("shutdown timed out: some objects are still in use");
    std::_Exit(1);
  });
  // Posted, because the server must not be stopped while a JSON-RPC call runs.
  control_->Post([this] {
    rpc_socket_.Stop();
    nvmf_.Shutdown([this] { vhost_.Close([this] { nvme_.Stop([this] { RemoveBdevs(); }); }); });
  });
}

// Stacked bdevs are removed first, while their base bdevs still work.
void TargetProgram::RemoveBdevs() {
  std::shared_ptr<void> last(this, [this](void*) { control_->RequestStop(); });
  std::vector<storage_target::bdev::Bdev*> bdevs = registry_.List();
  for (auto bdev = bdevs.rbegin(); bdev != bdevs.rend(); ++bdev) {
    registry_.Unregister(**bdev, [last] {});
  }
}

}  // namespace sma::apps
