// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <list>
#include <memory>
#include <vector>

#include "storage_target/nvmf/tcp/admission.h"
#include "storage_target/nvmf/tcp/listener.h"
#include "storage_target/nvmf/tcp/options.h"
#include "storage_target/nvmf/tcp/placement.h"
#include "storage_target/nvmf/tcp/poll_group.h"
#include "storage_target/nvmf/transport.h"

namespace sma::storage_target::nvmf {
class Target;
}

namespace sma::storage_target::nvmf::tcp {

/// The NVMe/TCP transport. Used only on the control reactor.
class TcpTransport final : public Transport {
 public:
  /// Creates the transport. `options` must be valid (see IsValid).
  TcpTransport(Target& target, const Options& options);
  ~TcpTransport() override;

  /// Returns true if a transport can be created with these options.
  static bool IsValid(const Options& options);

  const Options& options() const { return options_; }

  std::string_view type() const override { return "TCP"; }
  bool discoverable() const override { return true; }
  /// Subsystems share the socket of an address.
  base::ErrnoOr<uint16_t> Listen(const TransportAddress& address,
                                 const std::string& subsystem_nqn) override;
  void StopListening(const TransportAddress& address, const std::string& subsystem_nqn) override;
  void Shutdown(std::function<void()> done) override;

 private:
  void Accept(const Listener& listener, base::UniqueFd fd, TransportAddress peer);
  bool HasRoom(int fd, const std::string& source);
  void ReportRefused(const TransportAddress& peer);
  size_t ChooseGroup();

  Target& target_;
  const Options options_;
  const uint32_t descriptor_limit_;
  Admission admission_;
  Placement placement_;
  std::vector<Placement::Load> loads_;  // reused buffer
  uint64_t refused_ = 0;                // refused connections since the last report
  uint64_t reported_ns_ = 0;
  std::vector<std::unique_ptr<PollGroup>> groups_;
  std::list<std::unique_ptr<Listener>> listeners_;
  uint16_t last_port_id_ = 0;
};

}  // namespace sma::storage_target::nvmf::tcp
