#include "target/vhost_user/vring.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>

#include <bit>
#include <cassert>
#include <cerrno>
#include <utility>

#include "target/vhost_user/ring_address.h"

namespace sma::target::vhost_user {

size_t VringEnvironment::InflightRegionBytes() const {
  return packed() ? virtio::PackedInflight::RegionBytes(inflight_queue_size)
                  : virtio::InflightQueue::RegionBytes(inflight_queue_size);
}

namespace {

base::UniqueFd Duplicate(const base::UniqueFd& fd) {
  return base::UniqueFd(fd ? ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0) : -1);
}

}  // namespace

Vring::~Vring() { assert(queue_ == nullptr); }

void Vring::SetAddresses(const VringAddr& addresses) {
  addresses_ = addresses;
  has_addresses_ = true;
}

void Vring::Reset() {
  assert(queue_ == nullptr);
  size_ = 0;
  base_ = 0;
  begin_anew_ = has_addresses_ = false;
  enabled_.reset();
  kick_.Reset();
  call_.Reset();
  error_.Reset();
}

void Vring::SetCall(base::UniqueFd call) {
  call_ = std::move(call);
  if (queue_ == nullptr) return;
  // A shared pointer because a task has to be copyable.
  auto copy = std::make_shared<base::UniqueFd>(Duplicate(call_));
  reactor_.Post([queue = queue_, copy] { queue->SetCall(std::move(*copy)); });
}

void Vring::SetError(base::UniqueFd error) {
  error_ = std::move(error);
  if (queue_ == nullptr) return;
  auto copy = std::make_shared<base::UniqueFd>(Duplicate(error_));
  reactor_.Post([queue = queue_, copy] { queue->SetError(std::move(*copy)); });
}

// How the ring is served, from what the front end said of it. 0 or an errno value.
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
  // Some front ends give the lower half alone.
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
  assert(ready(true) && queue_ == nullptr);
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
  options.queue.begin_anew = std::exchange(begin_anew_, false);
  options.reactor = &reactor_;
  options.memory = environment.memory;
  options.write_through = (environment.features & Bit(VIRTIO_BLK_F_FLUSH)) == 0;
  options.kick = Duplicate(kick_);
  options.call = Duplicate(call_);
  options.error = Duplicate(error_);
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
      delete queue;
      control_.Post([this, base, done] {
        base_ = base;
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

// A task that starts a queue, sent before, has the descriptor still: this one comes after it.
void Vring::DetachBdev(std::function<void()> done) {
  if (queue_ == nullptr) {
    reactor_.Post([&control = control_, done = std::move(done)] { control.Post(done); });
    return;
  }
  reactor_.Post([queue = queue_, &control = control_, done = std::move(done)] {
    queue->DetachBdev([&control, done] { control.Post(done); });
  });
}

}  // namespace sma::target::vhost_user
