// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/bdev/bdev_waiter.h"

#include <utility>

namespace sma::storage_target::rpc {

BdevWaiter::BdevWaiter(bdev::Registry& registry) : registry_(registry) {
  registry_.AddObserver(this);
}

BdevWaiter::~BdevWaiter() {
  registry_.RemoveObserver(this);
  for (const Waiting& waiting : waiting_) registry_.control().CancelTimer(waiting.timer);
}

void BdevWaiter::Wait(std::string name, std::chrono::milliseconds timeout,
                      std::function<void(bdev::Bdev*)> done) {
  if (bdev::Bdev* bdev = registry_.Find(name)) return done(bdev);
  auto waiting = waiting_.insert(waiting_.end(), {std::move(name), 0, std::move(done)});
  waiting->timer = registry_.control().AddTimer(timeout, [this, waiting] {
    auto ended = std::move(waiting->done);
    waiting_.erase(waiting);
    ended(nullptr);
  });
}

void BdevWaiter::OnBdevRegistered(bdev::Bdev& bdev) {
  for (auto waiting = waiting_.begin(); waiting != waiting_.end();) {
    auto present = waiting++;
    if (registry_.Find(present->name) != &bdev) continue;
    registry_.control().CancelTimer(present->timer);
    auto done = std::move(present->done);
    waiting_.erase(present);
    done(&bdev);
  }
}

}  // namespace sma::storage_target::rpc
