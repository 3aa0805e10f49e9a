// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vhost_user/vring.h"

#include <linux/virtio_blk.h>

#include <bit>
#include <cassert>
#include <cerrno>
#include <utility>

#include "storage_target/vhost_user/ring_address.h"

namespace sma::storage_target::vhost_user {

size_t VringEnvironment::InflightRegionBytes() const {
  return packed() ? virtio::PackedInflight::RegionBytes(inflight_queue_size)
                  : virtio::InflightQueue::RegionBytes(inflight_queue_size);
}

Vring::~Vring() { assert(queue_ == nullptr); }

void Vring::SetAddresses(const VringAddr& addresses) {
  addresses_ = addresses;
  has_addresses_ = true;
}

void Vring::Reset() {
  assert(queue_ == nullptr);
  size_ = 0;
  base_ = 0;
  ignore_inflight_ = has_addresses_ = false;
  enabled_.reset();
  event_fds_ = {};
  has_eventfd_ = {};
}

void Vring::SetCall(base::UniqueFd call) {
  has_eventfd_[kCall] = static_cast<bool>(call);
  if (queue_ == nullptr) {
    event_fds_.call = std::move(call);
    return;
  }
  // A shared pointer is used, because a task must be copyable.
  auto shared = std::make_shared<base::UniqueFd>(std::move(call));
  reactor_.Post([queue = queue_, shared] { queue->SetCall(std::move(*shared)); });
}

void Vring::SetError(base::UniqueFd error) {
  has_eventfd_[kError] = static_cast<bool>(error);
  if (queue_ == nullptr) {
    event_fds_.error = std::move(error);
    return;
  }
  auto shared = std::make_shared<base::UniqueFd>(std::move(error));
  reactor_.Post([queue = queue_, shared] { queue->SetError(std::move(*shared)); });
}

// Fills `options` from the vring's parameters. Returns 0 or an errno value.
int Vring::DescribeRing(const VringEnvironment& environment,
                        virtio::Virtqueue::Options& options) const {
  const bool event_index = (environment.features & Bit(virtio::kRingEventIndex)) != 0;
  const bool indirect = (environment.features & Bit(virtio::kRingIndirect)) != 0;
  if (!environment.packed()) {
    if (!std::has_single_bit(size_)) return EINVAL;
    virtio::SplitQueue::Options split{.ring = {},
                                      .next_available = static_cast<uint16_t>(base_),
                                      .event_index = event_index,
                                      .indirect = indirect};
    int error = FindRing(*environment.memory, addresses_, size_, split.ring);
    options.ring = split;
    return error;
  }
  const auto next_available = virtio::PackedPosition::FromBits(static_cast<uint16_t>(base_));
  // Some front ends pass only the lower half of the base.
  const auto next_used = base_ >> 16 == 0
                             ? next_available
                             : virtio::PackedPosition::FromBits(static_cast<uint16_t>(base_ >> 16));
  if (next_available.index >= size_ || next_used.index >= size_) return EINVAL;
  virtio::PackedQueue::Options packed{.ring = {},
                                      .next_available = next_available,
                                      .next_used = next_used,
                                      .event_index = event_index,
                                      .indirect = indirect};
  int error = FindRing(*environment.memory, addresses_, size_, packed.ring);
  options.ring = packed;
  return error;
}

int Vring::Start(const VringEnvironment& environment, const virtio::BlkDevice& device,
                 std::function<void(std::string reason)> on_broken) {
  assert(ready(true));
  virtio::BlkQueue::Options options;
  if (int error = DescribeRing(environment, options.queue); error != 0) return error;
  if (environment.inflight) {
    const size_t region_bytes = environment.InflightRegionBytes();
    if (size_ > environment.inflight_queue_size ||
        (index_ + 1) * region_bytes > environment.inflight->bytes().size()) {
      return EINVAL;
    }
    options.queue.inflight = environment.inflight;
    options.queue.inflight_offset_bytes = index_ * region_bytes;
  }
  options.queue.ignore_inflight = std::exchange(ignore_inflight_, false);
  options.reactor = &reactor_;
  options.memory = environment.memory;
  options.write_through = (environment.features & Bit(VIRTIO_BLK_F_FLUSH)) == 0;
  options.event_fds = std::move(event_fds_);
  options.notifier = environment.notifier;
  options.front_end_socket = environment.front_end_socket;
  options.turn = turn_;
  options.on_broken = [&control = control_, on_broken = std::move(on_broken)](std::string reason) {
    control.Post([on_broken, reason = std::move(reason)] { on_broken(reason); });
  };
  queue_ = new virtio::BlkQueue(std::move(options), device);
  reactor_.Post(
      [queue = queue_, descriptor = environment.descriptor] { queue->Start(descriptor); });
  return 0;
}

void Vring::Stop(std::function<void()> done) {
  stopping_ = std::make_shared<virtio::BlkQueue*>(std::exchange(queue_, nullptr));
  reactor_.Post([this, stopping = stopping_, done = std::move(done)] {
    (*stopping)->Stop([this, stopping, done] {
      virtio::BlkQueue* queue = std::exchange(*stopping, nullptr);
      const uint32_t base = queue->base();
      auto event_fds = std::make_shared<virtio::BlkQueue::EventFds>(queue->TakeEventFds());
      delete queue;
      control_.Post([this, base, event_fds, done] {
        base_ = base;
        event_fds_ = std::move(*event_fds);
        done();
      });
    });
  });
}

void Vring::AbortRequests() {
  if (!stopping_) return;
  reactor_.Post([stopping = std::exchange(stopping_, nullptr)] {
    if (*stopping != nullptr) (*stopping)->AbortRequests();
  });
}

void Vring::AttachBdev(bdev::Descriptor& descriptor) {
  reactor_.Post([queue = queue_, &descriptor] { queue->AttachBdev(&descriptor); });
}

// An earlier task that starts a queue may still use the descriptor: this task therefore runs after
// it.
void Vring::DetachBdev(std::function<void()> done) {
  if (queue_ == nullptr) {
    reactor_.Post([&control = control_, done = std::move(done)] { control.Post(done); });
    return;
  }
  reactor_.Post([queue = queue_, &control = control_, done = std::move(done)] {
    queue->DetachBdev([&control, done] { control.Post(done); });
  });
}

}  // namespace sma::storage_target::vhost_user
