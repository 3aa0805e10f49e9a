// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "storage_target/nvmf/transport.h"
#include "storage_target/nvmf/vfio_user/endpoint.h"
#include "storage_target/nvmf/vfio_user/options.h"

namespace sma::storage_target::nvmf::vfio_user {

/// The transport of NVMe controllers for virtual machines, over vfio-user. A listener is a folder
/// with a socket and belongs to one subsystem. Used only on the control reactor.
class VfioUserTransport final : public Transport {
 public:
  /// Creates the transport. `options` must be valid (see IsValid).
  VfioUserTransport(Target& target, const Options& options);
  ~VfioUserTransport() override;

  /// Returns true if a transport can be created with these options.
  static bool IsValid(const Options& options);

  const Options& options() const { return options_; }

  std::string_view type() const override { return "VFIOUSER"; }
  bool discoverable() const override { return false; }
  base::ErrnoOr<uint16_t> Listen(const TransportAddress& address,
                                 const std::string& subsystem_nqn) override;
  /// Also ends the client's session.
  void StopListening(const TransportAddress& address, const std::string& subsystem_nqn) override;
  void Shutdown(std::function<void()> done) override;

 private:
  struct Entry {
    std::unique_ptr<Endpoint> endpoint;
    Reactor& reactor;
  };

  void OnClosed(const Endpoint* endpoint);

  Target& target_;
  const Options options_;
  std::list<Entry> endpoints_;
  std::list<Entry> closing_;
  uint16_t last_port_id_ = 0;
  std::function<void()> when_shut_down_;
};

}  // namespace sma::storage_target::nvmf::vfio_user
