// SPDX-License-Identifier: Apache-2.0

// Handlers of messages about guest memory and the inflight buffer.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "storage_target/vhost_user/session.h"

namespace sma::storage_target::vhost_user {
namespace {

using Access = virtio::SharedMapping::Access;

// Maps a region and adds it to `memory`. Returns 0 or an errno value.
int AddRegion(virtio::GuestMemory& memory, const MemoryRegionDescription& description,
              const virtio::ReceivedFd& fd, const std::shared_ptr<virtio::GuardShare>& guards) {
  auto mapping = virtio::SharedMapping::Map(fd.get(), description.mmap_offset,
                                            description.size_bytes, Access::kReadWrite, guards);
  if (!mapping.ok()) return mapping.error();
  return memory.Add({.guest_address = description.guest_address,
                     .size_bytes = description.size_bytes,
                     .user_address = description.user_address,
                     .mapping = *std::move(mapping)});
}

// Creates a zeroed buffer that is sealed against truncation.
base::ErrnoOr<base::UniqueFd> MakeInflightBuffer(size_t size_bytes) {
  using Result = base::ErrnoOr<base::UniqueFd>;
  base::UniqueFd fd(::memfd_create("vhost-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0 ||
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
    return Result::Error(errno);
  }
  return fd;
}

bool IsValid(const InflightDescription& inflight) {
  return inflight.queue_count > 0 && inflight.queue_count <= Session::kMaxQueues &&
         inflight.queue_size > 0 && inflight.queue_size <= Vring::kMaxSize;
}

uint64_t InflightBytes(const InflightDescription& inflight, VringEnvironment environment) {
  environment.inflight_queue_size = inflight.queue_size;
  return inflight.queue_count * environment.InflightRegionBytes();
}

}  // namespace

void Session::UseMemory(virtio::GuestMemory memory) {
  auto shared = std::make_shared<const virtio::GuestMemory>(std::move(memory));
  ChangeWhileStopped(AllVrings(), [this, shared] {
    environment_.memory = shared;
    Acknowledge();
  });
}

void Session::SetMemTable() {
  const auto table = message_.As<MemoryTable>();
  virtio::GuestMemory memory;
  for (uint32_t i = 0; i < table.region_count; ++i) {
    if (int error = AddRegion(memory, table.regions[i], message_.fds[i], owner_.guards());
        error != 0) {
      Refuse(strerror(error));
      return;
    }
  }
  UseMemory(std::move(memory));
}

void Session::GetMaxMemSlots() { ReplyNumber(virtio::GuestMemory::kMaxRegions); }

void Session::AddMemReg() {
  virtio::GuestMemory memory = *environment_.memory;
  const MemoryRegionDescription region = message_.As<SingleMemoryRegion>().region;
  if (int error = AddRegion(memory, region, message_.fds.front(), owner_.guards()); error != 0) {
    Refuse(strerror(error));
    return;
  }
  UseMemory(std::move(memory));
}

void Session::RemMemReg() {
  virtio::GuestMemory memory = *environment_.memory;
  const MemoryRegionDescription region = message_.As<SingleMemoryRegion>().region;
  if (memory.Remove(region.guest_address, region.user_address, region.size_bytes) != 0) {
    Refuse("no such region");
    return;
  }
  UseMemory(std::move(memory));
}

void Session::GetInflightFd() {
  auto inflight = message_.As<InflightDescription>();
  if (!IsValid(inflight)) {
    End("GET_INFLIGHT_FD: invalid number or size of queues");
    return;
  }
  inflight.mmap_bytes = InflightBytes(inflight, environment_);
  inflight.mmap_offset = 0;
  auto buffer = MakeInflightBuffer(inflight.mmap_bytes);
  if (!buffer.ok()) {
    End(std::string("GET_INFLIGHT_FD: ") + strerror(buffer.error()));
    return;
  }
  Reply(std::as_bytes(std::span(&inflight, 1)).first(message_.header.payload_bytes), buffer->get());
}

void Session::SetInflightFd() {
  const auto inflight = message_.As<InflightDescription>();
  const uint64_t size_bytes = InflightBytes(inflight, environment_);
  if (!IsValid(inflight) || inflight.mmap_bytes < size_bytes) {
    Refuse("the buffer is too small for its queues");
    return;
  }
  if (inflight.mmap_offset % sizeof(uint64_t) != 0) {
    Refuse("the buffer is misaligned");
    return;
  }
  auto mapping = virtio::SharedMapping::Map(message_.fds.front().get(), inflight.mmap_offset,
                                            size_bytes, Access::kReadWrite, owner_.guards());
  if (!mapping.ok()) {
    Refuse(strerror(mapping.error()));
    return;
  }
  ChangeWhileStopped(AllVrings(), [this, inflight, mapping = *std::move(mapping)] {
    environment_.inflight = mapping;
    environment_.inflight_queue_size = inflight.queue_size;
    Acknowledge();
  });
}

}  // namespace sma::storage_target::vhost_user
