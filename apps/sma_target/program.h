#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "jsonrpc/server.h"
#include "sma_target/options.h"
#include "target/bdev/registry.h"
#include "target/bdev_modules/crypto/crypto_bdev.h"
#include "target/bdev_modules/iscsi/iscsi_module.h"
#include "target/bdev_modules/nvme/nvme_module.h"
#include "target/bdev_modules/passthru/passthru_bdev.h"
#include "target/nvmf/target.h"
#include "target/reactor/reactor.h"
#include "target/rpc/bdev_waiter.h"
#include "target/rpc/config_loader.h"
#include "target/rpc/framework_rpc.h"
#include "target/rpc/notifications.h"
#include "target/rpc/rpc_server.h"
#include "target/vhost_user/controller_table.h"

namespace sma::apps {

/// The running target: its reactors, and one of each part. The calling thread is the control
/// plane's.
class TargetProgram {
 public:
  /// Starts the I/O threads. SIGINT and SIGTERM must be blocked in all threads.
  explicit TargetProgram(TargetOptions options);
  ~TargetProgram();
  TargetProgram(const TargetProgram&) = delete;
  TargetProgram& operator=(const TargetProgram&) = delete;

  /// Serves until SIGINT or SIGTERM. The program's exit status.
  int Run();

 private:
  /// Calls a function when a descriptor is readable.
  struct Readable : target::FdHandler {
    void OnFdReady(uint32_t /*events*/) override { action(); }
    std::function<void()> action;
  };

  static std::vector<std::unique_ptr<target::Reactor>> StartReactors(const TargetOptions& options);
  void RegisterMethods();
  bool ApplyGuestSocketAccess() const;
  void Begin();
  void Initialise(const std::function<void()>& done);
  void FinishInitialisation(const std::function<void()>& done);
  /// True when the start goes on; ends the program otherwise.
  bool CheckConfig(const absl::Status& status);
  bool Listen();
  void Fail(const absl::Status& status);
  void OnSignal();
  void Shutdown();
  void RemoveBdevs();
  std::vector<target::Reactor*> io_reactors() const;
  std::vector<target::Reactor*> all_reactors() const;

  const TargetOptions options_;
  const std::unique_ptr<target::Reactor> control_;
  const std::vector<std::unique_ptr<target::Reactor>> reactors_;
  base::UniqueFd signal_fd_;
  Readable on_signal_;
  Readable on_rpc_;
  int exit_status_ = 0;
  bool shutting_down_ = false;

  jsonrpc::Server rpc_socket_;
  target::rpc::RpcServer rpc_{rpc_socket_};
  target::rpc::FrameworkInit init_{rpc_};
  target::bdev::Registry registry_;
  target::rpc::BdevWaiter bdev_waiter_{registry_};
  target::rpc::Notifications notifications_{registry_};
  target::bdev_modules::PassthruModule passthru_{registry_};
  target::bdev_modules::CryptoModule crypto_{registry_};
  target::bdev_iscsi::IscsiModule iscsi_{registry_};
  target::bdev_nvme::NvmeModule nvme_;
  target::nvmf::Target nvmf_;
  target::vhost_user::ControllerTable vhost_;
  std::optional<target::rpc::ConfigLoader> config_;
};

}  // namespace sma::apps
