// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/errno_or.h"
#include "base/unique_fd.h"
#include "storage_target/nvmf/vfio_user/nvme_function.h"
#include "storage_target/nvmf/vfio_user/options.h"
#include "storage_target/reactor/acceptor.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/vfio_user/session.h"

namespace sma::storage_target::nvmf::vfio_user {

/// A listener: the socket "cntrl" in its folder, and the NVMe function for the clients (VMMs) that
/// connect one after another. Opened and destroyed on the control reactor; otherwise used on its
/// own reactor.
class Endpoint final {
 public:
  /// Listens in the existing folder `address`.address. Errors: ENOENT if the folder does not exist;
  /// ENAMETOOLONG; EADDRINUSE if a process listens there; EEXIST if the path exists and is not a
  /// socket; otherwise the kernel's error. A socket on which no process listens is replaced.
  static base::ErrnoOr<std::unique_ptr<Endpoint>> Open(Target& target, Reactor& reactor,
                                                       const Options& options,
                                                       const TransportAddress& address,
                                                       const std::string& subsystem_nqn);
  /// May be called only after Close.
  ~Endpoint();

  const TransportAddress& address() const { return function_.address(); }

  /// Removes the socket file. Called on the control reactor, before Close.
  void RemoveSocket();
  /// Starts accepting clients.
  void Start();
  /// Accepts no more clients and ends the session; calls `done` when both have completed.
  void Close(std::function<void()> done);

 private:
  Endpoint(Target& target, Reactor& reactor, const Options& options,
           const TransportAddress& address, const std::string& subsystem_nqn)
      : reactor_(reactor), function_(target, reactor, options, address, subsystem_nqn) {}

  int Listen();
  void SetAccepting(bool accepting);
  void OnAccept(base::UniqueFd socket);
  void OnSessionEnded();
  void BeginPenalty();

  Reactor& reactor_;
  NvmeFunction function_;
  std::string socket_path_;
  bool has_socket_file_ = false;        // used by the control reactor
  std::unique_ptr<Acceptor> acceptor_;  // until Close
  std::unique_ptr<storage_target::vfio_user::Session> session_;
  Reactor::TimerId penalty_timer_ = 0;  // set while no client is accepted for a blocked write
  std::function<void()> when_closed_;
};

}  // namespace sma::storage_target::nvmf::vfio_user
