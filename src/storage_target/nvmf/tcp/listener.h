// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/errno_or.h"
#include "base/unique_fd.h"
#include "storage_target/nvmf/transport_address.h"
#include "storage_target/reactor/acceptor.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf::tcp {

/// A listening TCP socket. Used only on the control reactor.
class Listener {
 public:
  /// Receives each new connection and the peer's address.
  using OnAccept = std::function<void(Listener&, base::UniqueFd fd, TransportAddress peer)>;

  /// Starts listening. Errors: EINVAL unless `address` is a literal IP address and a port;
  /// otherwise the kernel's error.
  static base::ErrnoOr<std::unique_ptr<Listener>> Open(Reactor& control,
                                                       const TransportAddress& address,
                                                       OnAccept on_accept);
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  const TransportAddress& address() const { return address_; }

  uint16_t port_id = 0;    // in the discovery log page
  uint32_t use_count = 0;  // number of subsystems that listen here

 private:
  Listener(Reactor& control, TransportAddress address, base::UniqueFd fd, OnAccept on_accept);

  const TransportAddress address_;
  const OnAccept on_accept_;
  Acceptor acceptor_;
};

}  // namespace sma::storage_target::nvmf::tcp
