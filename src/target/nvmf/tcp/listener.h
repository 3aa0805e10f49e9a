#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/errno_or.h"
#include "base/unique_fd.h"
#include "target/nvmf/transport_address.h"
#include "target/reactor/reactor.h"
#include "target/reactor/work.h"

namespace sma::target::nvmf::tcp {

/// A listening TCP socket. The control reactor only.
class Listener final : private FdHandler {
 public:
  /// Gets each new connection and the address of the other end.
  using OnAccept = std::function<void(Listener&, base::UniqueFd fd, TransportAddress peer)>;

  /// EINVAL: not a literal IP address and a port; else what the kernel said.
  static base::ErrnoOr<std::unique_ptr<Listener>> Open(Reactor& control,
                                                       const TransportAddress& address,
                                                       OnAccept on_accept);
  ~Listener() override;

  const TransportAddress& address() const { return address_; }

  uint16_t port_id = 0;    // of the discovery log
  uint32_t use_count = 0;  // subsystems that listen here

 private:
  Listener(Reactor& control, TransportAddress address, base::UniqueFd fd, OnAccept on_accept);
  void OnFdReady(uint32_t events) override;
  void PauseAccepting(int error);

  Reactor& control_;
  const TransportAddress address_;
  base::UniqueFd fd_;
  const OnAccept on_accept_;
  Reactor::TimerId resume_timer_ = 0;
  uint64_t reported_ns_ = 0;  // when an error was logged last
};

}  // namespace sma::target::nvmf::tcp
