#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/errno_or.h"
#include "target/nvmf/options.h"
#include "target/nvmf/transport_address.h"

namespace sma::target::nvmf {

/// A way for hosts to reach subsystems. Used in the control reactor.
class Transport {
 public:
  virtual ~Transport() = default;

  /// TRTYPE in upper case.
  virtual std::string_view type() const = 0;
  const TransportLimits& limits() const { return limits_; }
  /// Whether its listeners belong in discovery log pages.
  virtual bool discoverable() const = 0;

  /// Lets hosts connect through `address` to the subsystem named (others that share the address are
  /// served too where the transport can tell them apart). The listener's port id, or EINVAL: no
  /// such kind of address; else what the kernel said.
  virtual base::ErrnoOr<uint16_t> Listen(const TransportAddress& address,
                                         const std::string& subsystem_nqn) = 0;
  /// Takes one Listen of `address` back; after the last, no new connections come. Those that are
  /// stay.
  virtual void StopListening(const TransportAddress& address, const std::string& subsystem_nqn) = 0;

  /// Stops listening and ends all connections; `done` runs when they are gone and the transport may
  /// be destroyed.
  virtual void Shutdown(std::function<void()> done) = 0;

 protected:
  explicit Transport(const TransportLimits& limits) : limits_(limits) {}

 private:
  const TransportLimits limits_;
};

}  // namespace sma::target::nvmf
