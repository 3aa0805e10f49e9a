// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/nvme_bdev.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace sma::storage_target::bdev_nvme {

using bdev::IoType;

NvmeChannel::NvmeChannel(bdev::Bdev& bdev, Reactor& reactor, uint32_t nsid, const DiskKey& disk,
                         std::shared_ptr<SubsystemQueues> queues)
    : Channel(bdev, reactor), nsid_(nsid), disk_(disk), queues_(std::move(queues)) {
  queues_->AddUser();
}

NvmeChannel::~NvmeChannel() { queues_->RemoveUser(); }

void NvmeChannel::DoSubmit(bdev::Io& io) {
  ++under_way_;
  queues_->Submit(NvmeIo::Begin(io, nsid_));
}

bool NvmeChannel::DoAbort(bdev::Io& io) { return queues_->Abort(NvmeIo::Of(io)); }

void NvmeChannel::Finish(NvmeIo& io, bdev::IoStatus status) {
  if (--under_way_ == 0) resetting_ = false;
  Complete(*io.io, status);
}

void NvmeChannel::DoReset() {
  resetting_ = under_way_ > 0;
  queues_->AbortWaiting(*this);
}

NvmeBdev::NvmeBdev(Info info, Options options)
    : Bdev(std::move(info)), options_(std::move(options)) {}

bool NvmeBdev::Supports(IoType type) const {
  switch (type) {
    case IoType::kRead:
    case IoType::kWrite:
      return true;
    case IoType::kFlush:
      return info().write_cache;
    case IoType::kUnmap:
      return options_.unmap;
    case IoType::kWriteZeroes:
      return options_.write_zeroes;
    case IoType::kCompare:
      return options_.compare;
  }
  return false;
}

std::unique_ptr<bdev::Channel> NvmeBdev::MakeChannel(Reactor& reactor) {
  auto found = std::find_if(options_.queues.begin(), options_.queues.end(),
                            [&](const auto& queues) { return &queues->reactor() == &reactor; });
  assert(found != options_.queues.end());
  return std::make_unique<NvmeChannel>(*this, reactor, options_.nsid, options_.disk, *found);
}

}  // namespace sma::storage_target::bdev_nvme
