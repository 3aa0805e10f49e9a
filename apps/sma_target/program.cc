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
#include "base/version.h"
#include "target/rpc/bdev_nvme_rpc.h"
#include "target/rpc/bdev_rpc.h"
#include "target/rpc/crypto_rpc.h"
#include "target/rpc/iscsi_rpc.h"
#include "target/rpc/nvmf_rpc.h"
#include "target/rpc/vhost_rpc.h"
#include "target/virtio/guest_socket.h"

namespace sma::apps {
namespace {

using target::Reactor;

constexpr std::chrono::seconds kMaxShutdownTime(10);

jsonrpc::ServerOptions RpcSocketOptions(const TargetOptions& options) {
  jsonrpc::ServerOptions server;
  // A call is seen at one look at the sockets and answered at the next.
  server.poll_period = std::chrono::milliseconds((options.rpc_delay_ms + 1) / 2);
  // Of the descriptors that hosts do not get, a part is for files and sockets that calls open.
  uint32_t reserve = base::DescriptorReserve(base::DescriptorLimit());
  server.max_connections = std::clamp<size_t>(reserve * 3 / 4, 4, server.max_connections);
  return server;
}

base::UniqueFd MakeSignalFd() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGTERM);
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

// Reactors are stopped, all of them, before anything goes that they or their last messages might
// use.
TargetProgram::~TargetProgram() {
  for (const auto& reactor : reactors_) reactor->Stop();
}

void TargetProgram::RegisterMethods() {
  using namespace target::rpc;  // NOLINT(google-build-using-namespace): all that is called here
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
    spdlog::info("without effect here: {}", absl::StrJoin(options_.ignored, " "));
  }
  control_->Post([this] { Begin(); });
  control_->Run();
  return exit_status_;
}

// False when there is no such group.
bool TargetProgram::ApplyGuestSocketAccess() const {
  target::virtio::GuestSocketAccess access{.mode = options_.guest_socket_mode};
  const std::string& group = options_.guest_socket_group;
  if (!group.empty()) {
    uint32_t number = 0;
    const struct group* found = ::getgrnam(group.c_str());
    if (found == nullptr && !absl::SimpleAtoi(group, &number)) return false;
    access.has_group = true;
    access.group = found != nullptr ? found->gr_gid : number;
  }
  target::virtio::SetGuestSocketAccess(access);
  return true;
}

void TargetProgram::Begin() {
  if (!ApplyGuestSocketAccess()) {
    return Fail(absl::InvalidArgumentError("no group " + options_.guest_socket_group));
  }
  if (!options_.pid_file.empty()) std::ofstream(options_.pid_file) << ::getpid() << '\n';
  if (!options_.config_path.empty()) {
    auto config = target::rpc::ConfigLoader::Read(rpc_, options_.config_path);
    if (!config.ok()) return Fail(config.status());
    config_ = std::move(*config);
  }
  init_.set_start([this](const std::function<void()>& done) { Initialise(done); });
  if (options_.wait_for_rpc) {
    Listen();
  } else {
    init_.Start(target::rpc::Reply([](const target::rpc::RpcResult&) {}));
  }
}

// First the calls of the configuration that belong before the end of the start-up phase, then the
// others.
void TargetProgram::Initialise(const std::function<void()>& done) {
  if (!config_) return FinishInitialisation(done);
  config_->Run([this, done](const absl::Status& before) {
    if (!CheckConfig(before)) return;
    rpc_.set_phase(target::rpc::Phase::kRuntime);
    config_->Run([this, done](const absl::Status& after) {
      if (CheckConfig(after)) FinishInitialisation(done);
    });
  });
}

void TargetProgram::FinishInitialisation(const std::function<void()>& done) {
  config_.reset();
  init_.Finish();
  done();
  if (!options_.wait_for_rpc && !Listen()) return;
  spdlog::info("version {}, {} I/O threads, {} for files, ready", base::GetVersion().text,
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

// In the end everything has been taken down in order, or has been waited for long enough.
void TargetProgram::Shutdown() {
  if (std::exchange(shutting_down_, true)) return;
  control_->Unwatch(rpc_socket_.fd());
  control_->AddTimer(kMaxShutdownTime, [] {
    spdlog::critical("cannot end in order: something is still in use");
    std::_Exit(1);
  });
  // Not from inside a call.
  control_->Post([this] {
    rpc_socket_.Stop();
    nvmf_.Shutdown([this] { vhost_.Close([this] { nvme_.Stop([this] { RemoveBdevs(); }); }); });
  });
}

// Those on top first, so that each finds its base in order.
void TargetProgram::RemoveBdevs() {
  std::shared_ptr<void> last(this, [this](void*) { control_->RequestStop(); });
  std::vector<target::bdev::Bdev*> bdevs = registry_.List();
  for (auto bdev = bdevs.rbegin(); bdev != bdevs.rend(); ++bdev) {
    registry_.Unregister(**bdev, [last] {});
  }
}

}  // namespace sma::apps
