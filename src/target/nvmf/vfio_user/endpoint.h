#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/errno_or.h"
#include "base/unique_fd.h"
#include "target/nvmf/vfio_user/nvme_function.h"
#include "target/nvmf/vfio_user/options.h"
#include "target/reactor/reactor.h"
#include "target/vfio_user/session.h"

namespace sma::target::nvmf::vfio_user {

/// A listener: the socket "cntrl" in its folder, and the function that clients (VMMs) find there,
/// one after another. Opened and destroyed in the control reactor; everything else happens in its
/// own reactor.
class Endpoint final : private FdHandler {
 public:
  /// Listens at `address`.address, an existing folder. ENOENT: there is no such folder;
  /// ENAMETOOLONG; EADDRINUSE: somebody listens there already; EEXIST: something that is no socket
  /// has its name; else what the kernel said. A socket that nobody listens on is replaced.
  static base::ErrnoOr<std::unique_ptr<Endpoint>> Open(Target& target, Reactor& reactor,
                                                       const Options& options,
                                                       const TransportAddress& address,
                                                       const std::string& subsystem_nqn);
  /// After Close.
  ~Endpoint() override;

  const TransportAddress& address() const { return function_.address(); }

  /// Takes the socket's name away. In the control reactor, before Close.
  void RemoveSocket();
  /// Begins to take clients.
  void Start();
  /// Takes no more clients and ends the session; `done` when nothing is left.
  void Close(std::function<void()> done);

 private:
  Endpoint(Target& target, Reactor& reactor, const Options& options,
           const TransportAddress& address, const std::string& subsystem_nqn)
      : reactor_(reactor), function_(target, reactor, options, address, subsystem_nqn) {}

  int Listen();
  void OnFdReady(uint32_t events) override;
  void SetListening(bool listening);
  void OnSessionEnded();

  Reactor& reactor_;
  NvmeFunction function_;
  std::string socket_path_;
  bool has_name_ = false;  // the control reactor's
  base::UniqueFd listener_;
  bool listening_ = false;
  std::unique_ptr<target::vfio_user::Session> session_;
  std::function<void()> when_closed_;
};

}  // namespace sma::target::nvmf::vfio_user
