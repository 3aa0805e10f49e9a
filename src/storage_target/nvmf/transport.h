// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/errno_or.h"
#include "storage_target/nvmf/options.h"
#include "storage_target/nvmf/transport_address.h"

namespace sma::storage_target::nvmf {

/// A transport through which hosts reach subsystems. Used only on the control reactor.
class Transport {
 public:
  virtual ~Transport() = default;

  /// Returns the TRTYPE in upper case.
  virtual std::string_view type() const = 0;
  const TransportLimits& limits() const { return limits_; }
  /// Returns true if its listeners belong in discovery log pages.
  virtual bool discoverable() const = 0;

  /// Allows hosts to connect through `address` to the named subsystem (and to others that share the
  /// address, if the transport can distinguish them). Returns the listener's port ID. Errors:
  /// EINVAL if the transport does not support this kind of address; otherwise the kernel's error.
  virtual base::ErrnoOr<uint16_t> Listen(const TransportAddress& address,
                                         const std::string& subsystem_nqn) = 0;
  /// Undoes one Listen of `address`; after the last one, no new connections are accepted. Existing
  /// connections are kept.
  virtual void StopListening(const TransportAddress& address, const std::string& subsystem_nqn) = 0;

  /// Stops listening and ends all connections; calls `done` when they are closed and the transport
  /// may be destroyed.
  virtual void Shutdown(std::function<void()> done) = 0;

 protected:
  explicit Transport(const TransportLimits& limits) : limits_(limits) {}

 private:
  const TransportLimits limits_;
};

}  // namespace sma::storage_target::nvmf
