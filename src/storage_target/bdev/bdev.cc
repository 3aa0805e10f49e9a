// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/bdev.h"

#include <cerrno>

#include "storage_target/bdev/registry.h"

namespace sma::storage_target::bdev {

Bdev::Bdev(Info info) : info_(std::move(info)), block_count_(info_.block_count) {}

Bdev::~Bdev() = default;

Descriptor::~Descriptor() { registry_.Close(*this); }

std::unique_ptr<Channel> Descriptor::OpenChannel(Reactor& reactor) {
  std::unique_ptr<Channel> channel = bdev_.MakeChannel(reactor);
  channel->may_write_ = may_write_;
  return channel;
}

int Descriptor::Claim(std::string claimant) {
  if (bdev_.claimant_) return EPERM;
  bdev_.claimant_ = std::move(claimant);
  bdev_.claim_holder_ = this;
  may_write_ = true;
  return 0;
}

}  // namespace sma::storage_target::bdev
