// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <string>

#include "storage_target/bdev/registry.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::rpc {

/// Waits for bdevs to appear. Used only on the control reactor.
class BdevWaiter final : public bdev::RegistryObserver {
 public:
  explicit BdevWaiter(bdev::Registry& registry);
  ~BdevWaiter() override;

  /// Calls `done` once, with the bdev of this name or UUID as soon as it exists, or with nullptr
  /// after `timeout`.
  void Wait(std::string name, std::chrono::milliseconds timeout,
            std::function<void(bdev::Bdev*)> done);

 private:
  struct Waiting {
    std::string name;
    Reactor::TimerId timer;
    std::function<void(bdev::Bdev*)> done;
  };

  void OnBdevRegistered(bdev::Bdev& bdev) override;

  bdev::Registry& registry_;
  std::list<Waiting> waiting_;
};

}  // namespace sma::storage_target::rpc
