// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "storage_target/nvmf/transport.h"

namespace sma::storage_target::nvmf {

/// A transport without connections, for tests: provides the listeners of FakeQueuePair.
class FakeTransport final : public Transport {
 public:
  FakeTransport() : Transport(TransportLimits()) {}
  std::string_view type() const override { return "FAKE"; }
  bool discoverable() const override { return false; }
  base::ErrnoOr<uint16_t> Listen(const TransportAddress& /*address*/,
                                 const std::string& /*subsystem_nqn*/) override {
    return uint16_t{1};
  }
  void StopListening(const TransportAddress& /*address*/,
                     const std::string& /*subsystem_nqn*/) override {}
  void Shutdown(std::function<void()> done) override { done(); }
};

}  // namespace sma::storage_target::nvmf
