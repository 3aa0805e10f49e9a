// The bdevs of a remote subsystem: they come and go with its namespaces.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "target/bdev_modules/nvme/driver_info.h"
#include "target/bdev_modules/nvme/nvme_bdev.h"
#include "target/bdev_modules/nvme/remote_subsystem.h"
#include "target/nvme/identify.h"

namespace sma::target::bdev_nvme {

using initiator::ControllerInfo;
using initiator::NamespaceInfo;

namespace {

// The name space of UUIDs for namespaces that have none of their own.
const base::Uuid& NameSpace() {
  static const base::Uuid uuid = *base::Uuid::Parse("6c9a1c0e-8f0b-4a86-9d0c-0b4c7f6a2e51");
  return uuid;
}

base::Uuid BdevUuid(const NamespaceInfo& info, const ControllerInfo& controller) {
  if (!info.uuid.is_nil()) return info.uuid;
  return base::Uuid::FromName(NameSpace(), controller.subnqn + '\0' + controller.serial_number +
                                               '\0' + std::to_string(info.nsid));
}

bdev::Bdev::Info MakeBdevInfo(const std::string& name, const NamespaceInfo& ns,
                              const ControllerInfo& controller) {
  bdev::Bdev::Info info;
  info.name = name + "n" + std::to_string(ns.nsid);
  info.uuid = BdevUuid(ns, controller);
  info.product_name = "NVMe disk";
  info.block_size = ns.block_size;
  info.block_count = ns.block_count;
  info.write_cache = controller.write_cache;
  info.native_fua = true;
  info.read_only = ns.write_protected;
  info.unmap_reads_zero = ns.reads_zeroes_after_unmap;
  info.numa_id = -1;
  info.write_alignment = ns.write_alignment;
  info.write_granularity = ns.write_granularity;
  info.optimal_write_size = ns.optimal_write_size;
  info.unmap_alignment = ns.unmap_alignment;
  info.unmap_granularity = ns.unmap_granularity;
  return info;
}

bool SameDisk(const NamespaceInfo& a, const NamespaceInfo& b) {
  return a.uuid == b.uuid && a.block_size == b.block_size && a.write_protected == b.write_protected;
}

}  // namespace

// Compares what the controllers say with what there is, and evens it out. What has to go before
// something else can come takes its time; it is looked at again then.
void RemoteSubsystem::Reconcile() {
  if (removing_) return;
  std::map<uint32_t, NamespaceInfo> wanted;
  for (const Member& member : members_) {
    if (!member.was_up) continue;
    for (const NamespaceInfo& info : member.path->namespaces()) wanted.emplace(info.nsid, info);
  }
  std::vector<uint32_t> unwanted;
  for (auto& [nsid, ns] : namespaces_) {
    auto found = wanted.find(nsid);
    if (found == wanted.end() || !SameDisk(found->second, ns.info)) unwanted.push_back(nsid);
  }
  for (uint32_t nsid : unwanted) UnregisterBdev(nsid);
  for (const auto& [nsid, info] : wanted) {
    auto found = namespaces_.find(nsid);
    if (found == namespaces_.end()) {
      RegisterBdev(info);
    } else if (found->second.bdev != nullptr) {
      UpdateBdev(found->second, info);
    }
  }
}

void RemoteSubsystem::RegisterBdev(const NamespaceInfo& info) {
  const ControllerInfo& controller = members_.front().path->info();
  NvmeBdev::Options options{.nsid = info.nsid,
                            .compare = (controller.oncs & nvme::kOncsCompare) != 0,
                            .unmap = (controller.oncs & nvme::kOncsDatasetManagement) != 0,
                            .write_zeroes = (controller.oncs & nvme::kOncsWriteZeroes) != 0,
                            .queues = queues_,
                            .driver_specific = [weak = weak_from_this(), nsid = info.nsid] {
                              auto self = weak.lock();
                              return self ? self->DriverSpecific(nsid) : bdev::Object{};
                            }};
  auto made = std::make_unique<NvmeBdev>(MakeBdevInfo(name_, info, controller), options);
  bdev::Bdev* bdev = made.get();
  const std::string bdev_name = bdev->name();
  if (int error = environment_.registry.Register(std::move(made)); error != 0) {
    spdlog::error("nvme: {} (UUID {}) cannot become a bdev: {}", bdev_name, info.uuid.ToString(),
                  std::strerror(error));
    return;
  }
  namespaces_[info.nsid] = {info, bdev};
}

void RemoteSubsystem::UpdateBdev(Namespace& ns, const NamespaceInfo& info) {
  if (info.block_count == ns.bdev->block_count()) return;
  if (int error = environment_.registry.Resize(*ns.bdev, info.block_count); error != 0) {
    spdlog::warn("nvme: {} has {} blocks now, but is in use with {}", ns.bdev->name(),
                 info.block_count, ns.bdev->block_count());
    return;
  }
  ns.info = info;
}

void RemoteSubsystem::UnregisterBdev(uint32_t nsid) {
  Namespace& ns = namespaces_[nsid];
  if (ns.bdev == nullptr) return;
  bdev::Bdev& bdev = *std::exchange(ns.bdev, nullptr);
  environment_.registry.Unregister(bdev, [self = shared_from_this(), nsid] {
    self->namespaces_.erase(nsid);
    self->ShutDownWhenEmpty();
    self->Reconcile();
  });
}

std::vector<std::string> RemoteSubsystem::BdevNames() const {
  std::vector<std::string> names;
  for (const auto& [nsid, ns] : namespaces_) {
    if (ns.bdev != nullptr) names.push_back(ns.bdev->name());
  }
  return names;
}

bdev::Object RemoteSubsystem::DriverSpecific(uint32_t nsid) const {
  bdev::List paths;
  auto found = namespaces_.find(nsid);
  if (found != namespaces_.end()) {
    for (const Member& member : members_) {
      if (member.was_up) paths.push_back(NamespacePathInfo(*member.path, found->second.info));
    }
  }
  return {{"nvme", paths}, {"mp_policy", PolicyName(policy_)}};
}

}  // namespace sma::target::bdev_nvme
