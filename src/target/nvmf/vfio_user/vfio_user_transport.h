#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "target/nvmf/transport.h"
#include "target/nvmf/vfio_user/endpoint.h"
#include "target/nvmf/vfio_user/options.h"

namespace sma::target::nvmf::vfio_user {

/// NVMe controllers for virtual machines, over vfio-user. A listener is a folder with a socket; it
/// belongs to one subsystem. The control reactor only.
class VfioUserTransport final : public Transport {
 public:
  /// The options must be valid.
  VfioUserTransport(Target& target, const Options& options);
  ~VfioUserTransport() override;

  /// Whether a transport can be made with them.
  static bool IsValid(const Options& options);

  const Options& options() const { return options_; }

  std::string_view type() const override { return "VFIOUSER"; }
  bool discoverable() const override { return false; }
  base::ErrnoOr<uint16_t> Listen(const TransportAddress& address,
                                 const std::string& subsystem_nqn) override;
  /// Ends the session of the client too.
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

}  // namespace sma::target::nvmf::vfio_user
