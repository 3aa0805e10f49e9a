#include "target/vhost_user/vring.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>

#include <cassert>
#include <cerrno>
#include <utility>

namespace sma::target::vhost_user {
namespace {

base::UniqueFd Duplicate(const base::UniqueFd& fd) {
  return base::UniqueFd(fd ? ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0) : -1);
}

bool IsAligned(uint64_t address, size_t alignment) { return address % alignment == 0; }

}  // namespace

Vring::~Vring() { assert(queue_ == nullptr); }

void Vring::SetAddresses(const VringAddr& addresses) {
  addresses_ = addresses;
  has_addresses_ = true;
}

void Vring::Reset() {
  assert(queue_ == nullptr);
  size_ = base_ = 0;
  has_addresses_ = false;
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

int Vring::FindRing(const virtio::GuestMemory& memory, virtio::SplitRing& ring) const {
  using virtio::SplitRing;
  if (!IsAligned(addresses_.descriptors, SplitRing::kDescriptorAlignment) ||
      !IsAligned(addresses_.available, SplitRing::kAvailableAlignment) ||
      !IsAligned(addresses_.used, SplitRing::kUsedAlignment)) {
    return EINVAL;
  }
  std::byte* descriptors =
      memory.TranslateUser(addresses_.descriptors, SplitRing::DescriptorBytes(size_));
  std::byte* available =
      memory.TranslateUser(addresses_.available, SplitRing::AvailableBytes(size_));
  std::byte* used = memory.TranslateUser(addresses_.used, SplitRing::UsedBytes(size_));
  if (descriptors == nullptr || available == nullptr || used == nullptr) return EFAULT;
  // A front end may map a file at an address that is less aligned than ours.
  if (!IsAligned(reinterpret_cast<uintptr_t>(descriptors), SplitRing::kDescriptorAlignment) ||
      !IsAligned(reinterpret_cast<uintptr_t>(available), SplitRing::kAvailableAlignment) ||
      !IsAligned(reinterpret_cast<uintptr_t>(used), SplitRing::kUsedAlignment)) {
    return EINVAL;
  }
  ring.size = size_;
  ring.descriptors = reinterpret_cast<virtio::Descriptor*>(descriptors);
  ring.available = reinterpret_cast<uint16_t*>(available);
  ring.used = reinterpret_cast<uint16_t*>(used);
  return 0;
}

int Vring::Start(const VringEnvironment& environment, const virtio::BlkDevice& device,
                 std::function<void(std::string reason)> on_broken) {
  assert(ready(true) && queue_ == nullptr);
  virtio::BlkQueue::Options options;
  if (int error = FindRing(*environment.memory, options.queue.ring); error != 0) return error;
  if (environment.inflight) {
    if (index_ >= environment.inflight_queue_count || size_ > environment.inflight_queue_size) {
      return EINVAL;
    }
    options.inflight = environment.inflight;
    options.inflight_offset_bytes =
        index_ * virtio::InflightQueue::RegionBytes(environment.inflight_queue_size);
  }
  options.reactor = &reactor_;
  options.memory = environment.memory;
  options.queue.next_available = base_;
  options.queue.event_index = (environment.features & Bit(virtio::kRingEventIndex)) != 0;
  options.queue.indirect = (environment.features & Bit(virtio::kRingIndirect)) != 0;
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
  virtio::BlkQueue* queue = std::exchange(queue_, nullptr);
  reactor_.Post([this, queue, done = std::move(done)] {
    queue->Stop([this, queue, done] {
      const uint16_t next_available = queue->next_available();
      delete queue;
      control_.Post([this, next_available, done] {
        base_ = next_available;
        done();
      });
    });
  });
}

void Vring::AttachBdev(bdev::Descriptor& descriptor) {
  reactor_.Post([queue = queue_, &descriptor] { queue->AttachBdev(&descriptor); });
}

void Vring::DetachBdev(std::function<void()> done) {
  reactor_.Post([queue = queue_, &control = control_, done = std::move(done)] {
    queue->DetachBdev([&control, done] { control.Post(done); });
  });
}

}  // namespace sma::target::vhost_user
