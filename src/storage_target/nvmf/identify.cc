// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/identify.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>

#include "storage_target/bdev/bdev.h"
#include "storage_target/nvme/identify_namespace.h"
#include "storage_target/nvme/nqn.h"
#include "storage_target/nvmf/identify_controller.h"
#include "storage_target/nvmf/queue_pair.h"

namespace sma::storage_target::nvmf {
namespace {

using nvme::Cns;
using nvme::Status;

constexpr uint32_t kLargestNsid = 0xfffffffe;

// Sends a structure of kIdentifySize bytes. Returns false if there is no memory at present.
template <typename T>
bool TrySend(QueuePair& queue_pair, Request& request, const T& structure) {
  static_assert(sizeof(T) == nvme::kIdentifySize);
  if (!queue_pair.SendData(request, std::as_bytes(std::span(&structure, 1)))) return false;
  queue_pair.Complete(request, Status::kSuccess);
  return true;
}

template <typename T>
void Send(QueuePair& queue_pair, Request& request, const T& structure) {
  TrySend(queue_pair, request, structure);
}

uint16_t Preference(uint32_t blocks) {
  return static_cast<uint16_t>(std::clamp<uint32_t>(blocks, 1, 0x10000) - 1);  // 0's based
}

nvme::IdentifyNamespace DescribeNamespace(const NamespaceInfo& info) {
  const bdev::Bdev& bdev = info.descriptor->bdev();
  const bdev::Bdev::Info& device = bdev.info();
  nvme::IdentifyNamespace ns;
  ns.nsze = ns.ncap = ns.nuse = bdev.block_count();
  bool preferences = device.write_granularity + device.write_alignment + device.unmap_granularity +
                         device.unmap_alignment + device.optimal_write_size !=
                     0;
  if (preferences) ns.nsfeat = nvme::kNsfeatOptimalPerformance;
  ns.nmic = nvme::kNmicShared;
  if (device.unmap_reads_zero) ns.dlfeat |= nvme::kDlfeatReadsZeroes;
  if (device.write_zeroes_deallocates) ns.dlfeat |= nvme::kDlfeatWriteZeroesDeallocates;
  ns.npwg = Preference(device.write_granularity);
  ns.npwa = Preference(device.write_alignment);
  ns.npdg = Preference(device.unmap_granularity);
  ns.npda = Preference(device.unmap_alignment);
  ns.nows = Preference(device.optimal_write_size);
  if (info.read_only) ns.nsattr = nvme::kNsattrWriteProtected;
  ns.nguid = info.nguid.bytes();
  ns.eui64 = info.eui64;
  ns.lba_formats[0].block_shift = info.block_shift;
  return ns;
}

nvme::IndependentIdentifyNamespace DescribeIndependently(const NamespaceInfo& info) {
  nvme::IndependentIdentifyNamespace ns;
  ns.nmic = nvme::kNmicShared;
  if (info.read_only) ns.nsattr = nvme::kNsattrWriteProtected;
  ns.nstat = 1;
  return ns;
}

// The list of namespace identification descriptors, NVMe Base 2.0 §5.17.2.3.
class DescriptorList {
 public:
  void Add(nvme::NamespaceIdType type, std::span<const uint8_t> id) {
    nvme::NamespaceDescriptor descriptor{type, static_cast<uint8_t>(id.size()), {}};
    std::memcpy(bytes_.data() + size_, &descriptor, sizeof descriptor);
    std::memcpy(bytes_.data() + size_ + sizeof descriptor, id.data(), id.size());
    size_ += sizeof descriptor + id.size();
  }
  const auto& bytes() const { return bytes_; }

 private:
  std::array<uint8_t, nvme::kIdentifySize> bytes_{};
  size_t size_ = 0;
};

DescriptorList DescribeIds(const NamespaceInfo& info) {
  DescriptorList list;
  if (info.eui64 != decltype(info.eui64){}) list.Add(nvme::NamespaceIdType::kEui64, info.eui64);
  if (!info.nguid.is_nil()) list.Add(nvme::NamespaceIdType::kNguid, info.nguid.bytes());
  list.Add(nvme::NamespaceIdType::kUuid, info.uuid.bytes());
  list.Add(nvme::NamespaceIdType::kCommandSet, std::array{nvme::kCsiNvm});
  return list;
}

void SendNamespaceList(QueuePair& queue_pair, Request& request) {
  if (request.command.nsid >= kLargestNsid) {
    return queue_pair.Complete(request, Status::kInvalidNamespaceOrFormat);
  }
  nvme::NamespaceList list{};
  size_t count = 0;
  queue_pair.namespaces().VisitFrom(request.command.nsid, [&](NamespaceEntry& entry) {
    list[count++] = entry.info().nsid;
    return count < list.size();
  });
  const uint32_t last = count < list.size() ? UINT32_MAX : list.back();
  const uint32_t first = request.command.nsid + 1;
  if (TrySend(queue_pair, request, list))
    queue_pair.controller().async_events().NamespacesListed(first, last);
}

// Sends a structure about one namespace; sends zeroes for a valid NSID without a namespace (NVMe
// Base 2.0 §5.17.1).
void SendNamespace(QueuePair& queue_pair, Request& request, Cns cns) {
  uint32_t nsid = request.command.nsid;
  bool valid = nsid != 0 && nsid <= queue_pair.controller().subsystem().max_namespaces;
  const NamespaceEntry* entry = queue_pair.namespaces().Find(nsid);
  if (!valid || (entry == nullptr && cns == Cns::kNamespaceDescriptors)) {
    return queue_pair.Complete(request, Status::kInvalidNamespaceOrFormat);
  }
  if (entry == nullptr) {
    if (TrySend(queue_pair, request, nvme::NvmIdentifyNamespace()))
      queue_pair.controller().async_events().NamespacesListed(nsid, nsid);
    return;
  }
  switch (cns) {
    case Cns::kNamespace:
      return Send(queue_pair, request, DescribeNamespace(entry->info()));
    case Cns::kNamespaceDescriptors:
      return Send(queue_pair, request, DescribeIds(entry->info()).bytes());
    case Cns::kIndependentNamespace:
      return Send(queue_pair, request, DescribeIndependently(entry->info()));
    default:
      return Send(queue_pair, request, nvme::NvmIdentifyNamespace());
  }
}

void SendNvmController(QueuePair& queue_pair, Request& request) {
  const SubsystemOptions& subsystem = queue_pair.controller().subsystem();
  nvme::NvmIdentifyController limits;
  limits.write_zeroes_limit = subsystem.write_zeroes_limit;
  limits.dsm_range_size_limit = subsystem.dsm_range_size_limit;
  Send(queue_pair, request, limits);
}

void SendCommandSets(QueuePair& queue_pair, Request& request) {
  nvme::CommandSetVectors vectors{};
  vectors[0] = uint64_t{1} << nvme::kCsiNvm;
  Send(queue_pair, request, vectors);
}

// Executes Identify for one I/O command set; only the NVM command set is supported.
void IdentifyForCommandSet(QueuePair& queue_pair, Request& request, Cns cns) {
  if (request.command.cdw11 >> 24 != nvme::kCsiNvm)
    return queue_pair.Complete(request, Status::kInvalidField);
  switch (cns) {
    case Cns::kCommandSetNamespace:
      return SendNamespace(queue_pair, request, cns);
    case Cns::kCommandSetController:
      return SendNvmController(queue_pair, request);
    default:
      return SendNamespaceList(queue_pair, request);
  }
}

}  // namespace

void Identify(QueuePair& queue_pair, Request& request) {
  auto cns = static_cast<Cns>(request.command.cdw10 & 0xff);
  if (cns == Cns::kController)
    return Send(queue_pair, request, DescribeController(queue_pair.controller()));
  if (queue_pair.controller().is_discovery())
    return queue_pair.Complete(request, Status::kInvalidField);
  switch (cns) {
    case Cns::kNamespace:
    case Cns::kNamespaceDescriptors:
    case Cns::kIndependentNamespace:
      return SendNamespace(queue_pair, request, cns);
    case Cns::kActiveNamespaceList:
      return SendNamespaceList(queue_pair, request);
    case Cns::kCommandSetNamespace:
    case Cns::kCommandSetController:
    case Cns::kCommandSetActiveNamespaceList:
      return IdentifyForCommandSet(queue_pair, request, cns);
    case Cns::kCommandSets:
      return SendCommandSets(queue_pair, request);
    default:
      return queue_pair.Complete(request, Status::kInvalidField);
  }
}

}  // namespace sma::storage_target::nvmf
