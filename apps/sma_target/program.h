// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "jsonrpc/server.h"
#include "sma_target/options.h"
#include "storage_target/bdev/registry.h"
#include "storage_target/bdev_modules/crypto/crypto_bdev.h"
#include "storage_target/bdev_modules/iscsi/iscsi_module.h"
#include "storage_target/bdev_modules/nvme/nvme_module.h"
#include "storage_target/bdev_modules/passthru/passthru_bdev.h"
#include "storage_target/nvmf/target.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/rpc/app/framework_rpc.h"
#include "storage_target/rpc/app/notifications.h"
#include "storage_target/rpc/bdev/bdev_waiter.h"
#include "storage_target/rpc/config_loader.h"
#include "storage_target/rpc/rpc_server.h"
#include "storage_target/vhost_user/controller_table.h"

namespace sma::apps {

/// The running target: its reactors and all its parts. The calling thread becomes the control
/// reactor.
class TargetProgram {
 public:
  /// Starts the I/O threads. SIGINT and SIGTERM must be blocked in all threads.
  explicit TargetProgram(TargetOptions options);
  ~TargetProgram();
  TargetProgram(const TargetProgram&) = delete;
  TargetProgram& operator=(const TargetProgram&) = delete;

  /// Serves until SIGINT or SIGTERM; returns the program's exit status.
  int Run();

 private:
  /// Calls a function when a descriptor is readable.
  struct Readable : storage_target::FdHandler {
    void OnFdReady(uint32_t /*events*/) override { action(); }
    std::function<void()> action;
  };

  static std::vector<std::unique_ptr<storage_target::Reactor>> StartReactors(
      const TargetOptions& options);
  void RegisterMethods();
  bool ApplyGuestSocketAccess() const;
  void Begin();
  void Initialise(const std::function<void()>& done);
  void FinishInitialisation(const std::function<void()>& done);
  /// Returns true if the start may continue; otherwise ends the program.
  bool CheckConfig(const absl::Status& status);
  bool Listen();
  void Fail(const absl::Status& status);
  void OnSignal();
  void Shutdown();
  void RemoveBdevs();
  std::vector<storage_target::Reactor*> io_reactors() const;
  std::vector<storage_target::Reactor*> all_reactors() const;

  const TargetOptions options_;
  const std::unique_ptr<storage_target::Reactor> control_;
  const std::vector<std::unique_ptr<storage_target::Reactor>> reactors_;
  base::UniqueFd signal_fd_;
  Readable on_signal_;
  Readable on_rpc_;
  int exit_status_ = 0;
  bool shutting_down_ = false;

  jsonrpc::Server rpc_socket_;
  storage_target::rpc::RpcServer rpc_{rpc_socket_};
  storage_target::rpc::FrameworkInit init_{rpc_};
  storage_target::bdev::Registry registry_;
  storage_target::rpc::BdevWaiter bdev_waiter_{registry_};
  storage_target::rpc::Notifications notifications_{registry_};
  storage_target::bdev_passthru::PassthruModule passthru_{registry_};
  storage_target::bdev_crypto::CryptoModule crypto_{registry_};
  storage_target::bdev_iscsi::IscsiModule iscsi_{registry_};
  storage_target::bdev_nvme::NvmeModule nvme_;
  storage_target::nvmf::Target nvmf_;
  storage_target::vhost_user::ControllerTable vhost_;
  std::optional<storage_target::rpc::ConfigLoader> config_;
};

}  // namespace sma::apps
