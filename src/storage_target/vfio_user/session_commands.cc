// SPDX-License-Identifier: Apache-2.0

#include <linux/vfio.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "base/peer_log.h"
#include "spdlog/spdlog.h"
#include "storage_target/vfio_user/session.h"

namespace sma::storage_target::vfio_user {
namespace {

// Reads the structure at the start of a payload; nullopt if the payload is too short.
template <typename T>
std::optional<T> Read(std::span<const std::byte> payload) {
  if (payload.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, payload.data(), sizeof value);
  return value;
}

std::span<const std::byte> PayloadAfter(std::span<const std::byte> payload, size_t size_bytes) {
  return payload.subspan(size_bytes);
}

constexpr uint32_t kUnmapAll = 1u << 1;  // VFIO_DMA_UNMAP_FLAG_ALL

}  // namespace

template <typename T>
Session::Reply Session::ReplyWith(const T& value) {
  static_assert(sizeof(T) <= sizeof(reply_));
  std::memcpy(reply_.data(), &value, sizeof value);
  return {.first = std::span(reply_).first(sizeof value)};
}

bool Session::Negotiate(const Message& message) {
  auto client = ParseVersion(message.payload);
  if (!client) return false;
  client_ = *client;
  messages_.SetMaxTransfer(client_.max_transfer_bytes);
  negotiated_ = true;
  const std::string reply = MakeVersionReply(client_);
  SendReply(message.header, {.first = std::as_bytes(std::span(reply))});
  return true;
}

int Session::MapMemory(Message& message) {
  const auto map = Read<DmaMapRequest>(message.payload);
  if (!map || (map->flags & ~(kDmaReadable | kDmaWritable)) != 0) return EINVAL;
  if (message.fds.size() > 1) return EINVAL;
  DmaRegion region;
  region.address = map->address;
  region.size_bytes = map->size_bytes;
  region.readable = (map->flags & kDmaReadable) != 0;
  region.writable = (map->flags & kDmaWritable) != 0;
  if (!message.fds.empty()) {
    using Access = virtio::SharedMapping::Access;
    auto mapping = virtio::SharedMapping::Map(
        message.fds.front().get(), map->offset_bytes, map->size_bytes,
        region.writable ? Access::kReadWrite : Access::kReadOnly, device_.memory().guards());
    if (!mapping.ok()) return mapping.error();
    region.mapping = *std::move(mapping);
  }
  if (int error = device_.memory().Add(std::move(region)); error != 0) return error;
  device_.Resume();
  return 0;
}

// The reply is sent only when the memory is no longer used.
void Session::UnmapMemory(const Message& message) {
  const auto unmap = Read<DmaUnmapRequest>(message.payload);
  if (!unmap) return SendReply(message.header, {.error = EINVAL});
  BeginWait();
  device_.Pause([this, header = message.header, unmap = *unmap] {
    const int error = RemoveMemory(unmap);
    device_.Resume();
    Reply reply = ReplyWith(unmap);
    reply.error = error;
    EndWait(header, reply);
  });
}

int Session::RemoveMemory(const DmaUnmapRequest& unmap) {
  if (unmap.flags == 0) return device_.memory().Remove(unmap.address, unmap.size_bytes);
  if (unmap.flags != kUnmapAll || unmap.address != 0 || unmap.size_bytes != 0) return EINVAL;
  device_.memory().Clear();
  return 0;
}

Session::Reply Session::DescribeDevice(const Message& message) {
  const auto request = Read<DeviceInfo>(message.payload);
  if (!request || request->argsz < sizeof(DeviceInfo)) return {.error = EINVAL};
  DeviceInfo info;
  info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
  info.region_count = kRegionCount;
  info.irq_count = Interrupts::kTypeCount;
  return ReplyWith(info);
}

Session::Reply Session::DescribeRegion(const Message& message) {
  const auto request = Read<RegionInfo>(message.payload);
  if (!request || request->argsz < sizeof(RegionInfo) || request->index >= kRegionCount)
    return {.error = EINVAL};
  const Region region = device_.DescribeRegion(request->index);
  struct {
    RegionInfo info;
    SparseMmap sparse;
  } reply;
  reply.info.index = request->index;
  reply.info.size_bytes = region.size_bytes;
  if (region.size_bytes != 0)
    reply.info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
  if (region.fd < 0) return ReplyWith(reply.info);
  reply.info.flags |= VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;
  reply.info.argsz = sizeof reply;
  reply.sparse.offset_bytes = region.mappable_offset_bytes;
  reply.sparse.size_bytes = region.mappable_bytes;
  // If the reply would be larger than argsz, the capability is omitted, and the client repeats the
  // request with a larger argsz.
  const bool fits = request->argsz >= sizeof reply;
  if (fits) reply.info.cap_offset = sizeof(RegionInfo);
  Reply answer = fits ? ReplyWith(reply) : ReplyWith(reply.info);
  answer.fd = region.fd;
  return answer;
}

Session::Reply Session::DescribeIrq(const Message& message) {
  const auto request = Read<IrqInfo>(message.payload);
  if (!request || request->argsz < sizeof(IrqInfo) || request->index >= Interrupts::kTypeCount)
    return {.error = EINVAL};
  return ReplyWith(device_.interrupts().Describe(request->index));
}

int Session::SetIrqs(Message& message) {
  const auto set = Read<IrqSet>(message.payload);
  if (!set) return EINVAL;
  const int error =
      device_.interrupts().Set(*set, PayloadAfter(message.payload, sizeof *set), message.fds);
  if (error == ENOSPC) {
    base::LogOfPeers().Log(spdlog::level::warn, device_.name(),
                           "{}: eventfds for interrupts are refused, because too few descriptors "
                           "are left for other guests",
                           device_.name());
  }
  return error;
}

bool Session::IsInRegion(const RegionAccess& access) const {
  if (access.region >= kRegionCount || access.count == 0) return false;
  const uint64_t size_bytes = device_.DescribeRegion(access.region).size_bytes;
  return access.offset_bytes < size_bytes && access.count <= size_bytes - access.offset_bytes;
}

Session::Reply Session::ReadRegion(const Message& message) {
  const auto access = Read<RegionAccess>(message.payload);
  if (!access || !IsInRegion(*access)) return {.error = EINVAL};
  if (access->count > reply_.size() - sizeof *access) return {.error = EINVAL};
  Reply reply = ReplyWith(*access);
  const std::span<std::byte> data = std::span(reply_).subspan(sizeof *access, access->count);
  if (!device_.ReadRegion(access->region, access->offset_bytes, data)) return {.error = EINVAL};
  reply.second = data;
  return reply;
}

int Session::Write(const RegionAccess& access, std::span<const std::byte> data) {
  if (!IsInRegion(access) || data.size() != access.count) return EINVAL;
  return device_.WriteRegion(access.region, access.offset_bytes, data) ? 0 : EINVAL;
}

Session::Reply Session::WriteRegion(const Message& message) {
  const auto access = Read<RegionAccess>(message.payload);
  if (!access) return {.error = EINVAL};
  const int error = Write(*access, PayloadAfter(message.payload, sizeof *access));
  if (error != 0) return {.error = error};
  return ReplyWith(*access);
}

Session::Reply Session::WriteMultiple(const Message& message) {
  const auto count = Read<uint64_t>(message.payload);
  if (!client_.write_multiple) return {.error = ENOTSUP};
  if (!count) return {.error = EINVAL};
  std::span<const std::byte> writes = PayloadAfter(message.payload, sizeof *count);
  if (writes.size() % sizeof(SmallWrite) != 0 || *count != writes.size() / sizeof(SmallWrite))
    return {.error = EINVAL};
  for (; !writes.empty(); writes = writes.subspan(sizeof(SmallWrite))) {
    const SmallWrite write = *Read<SmallWrite>(writes);
    if (write.access.count > sizeof write.data) return {.error = EINVAL};
    const auto data = std::as_bytes(std::span(write.data)).first(write.access.count);
    if (int error = Write(write.access, data); error != 0) return {.error = error};
  }
  return ReplyWith(*count);
}

void Session::Reset(const Message& message) {
  BeginWait();
  device_.Reset([this, header = message.header] { EndWait(header, {}); });
}

}  // namespace sma::storage_target::vfio_user
