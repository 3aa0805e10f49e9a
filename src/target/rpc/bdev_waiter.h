#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <string>

#include "target/bdev/registry.h"
#include "target/reactor/reactor.h"

namespace sma::target::rpc {

/// Waits for bdevs to appear. Control reactor only.
class BdevWaiter final : public bdev::RegistryObserver {
 public:
  explicit BdevWaiter(bdev::Registry& registry);
  ~BdevWaiter() override;

  /// Calls `done` once: with the bdev of this name or UUID as soon as there is one, or with nullptr
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

}  // namespace sma::target::rpc
