// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/namespace_scan.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sma::storage_target::initiator {
namespace {

// More namespaces than any known controller has. The limit prevents a controller that sends endless
// lists from exhausting the memory.
constexpr size_t kMaxNamespaces = 65536;

}  // namespace

NamespaceScan::NamespaceScan(Controller& controller, Done done)
    : controller_(controller), done_(std::move(done)) {
  ReadList(0);
}

Controller::Callback NamespaceScan::Bound(
    Weak self, std::function<void(NamespaceScan&, const Controller::Result&)> function) {
  return
      [self = std::move(self), function = std::move(function)](const Controller::Result& result) {
        if (auto alive = self.lock()) function(**alive, result);
      };
}

void NamespaceScan::ReadList(uint32_t after) {
  controller_.Identify(nvme::Cns::kActiveNamespaceList, after,
                       Bound(self_, [after](NamespaceScan& scan, const Controller::Result& result) {
                         scan.OnList(result, after);
                       }));
}

void NamespaceScan::OnList(const Controller::Result& result, uint32_t after) {
  std::vector<uint32_t> nsids;
  if (result.ok()) {
    nvme::NamespaceList list;
    std::memcpy(list.data(), result.data.data(), sizeof list);
    nsids = ParseNamespaceList(list, after);
    nsids_.insert(nsids_.end(), nsids.begin(), nsids.end());
    if (nsids.size() == list.size() && nsids_.size() < kMaxNamespaces) {
      return ReadList(nsids.back());
    }
  } else {
    complete_ = false;
  }
  IdentifyMore();
}

void NamespaceScan::IdentifyMore() {
  while (next_ < nsids_.size() && under_way_ < kParallel) {
    uint32_t nsid = nsids_[next_++];
    ++under_way_;
    controller_.Identify(
        nvme::Cns::kNamespace, nsid,
        Bound(self_, [nsid](NamespaceScan& scan, const Controller::Result& result) {
          scan.OnNamespace(result, nsid);
        }));
  }
  if (under_way_ > 0) return;
  std::sort(namespaces_.begin(), namespaces_.end(),
            [](const NamespaceInfo& a, const NamespaceInfo& b) { return a.nsid < b.nsid; });
  // `done_` is moved, because calling it may destroy this object.
  auto done = std::move(done_);
  done(complete_, std::move(namespaces_));
}

void NamespaceScan::OnNamespace(const Controller::Result& result, uint32_t nsid) {
  if (!result.ok()) {
    complete_ = false;
    return FinishOne();
  }
  nvme::IdentifyNamespace data;
  std::memcpy(&data, result.data.data(), sizeof data);
  std::optional<NamespaceInfo> info = ParseNamespace(nsid, data);
  if (!info) return FinishOne();
  controller_.Identify(
      nvme::Cns::kNamespaceDescriptors, nsid,
      Bound(self_, [info = *info](NamespaceScan& scan, const Controller::Result& descriptors) {
        scan.OnDescriptors(descriptors, info);
      }));
}

// Descriptors are optional before NVMe 1.3: without them NGUID and EUI64 are used. After any other
// failure the scan is incomplete, because the namespace must not get a different identity.
void NamespaceScan::OnDescriptors(const Controller::Result& result, NamespaceInfo info) {
  nvme::Status status = nvme::StatusOf(result.completion.status);
  if (result.ok()) {
    ApplyDescriptors(result.data, info);
  } else if (status != nvme::Status::kInvalidField && status != nvme::Status::kInvalidOpcode) {
    complete_ = false;
  }
  namespaces_.push_back(info);
  FinishOne();
}

void NamespaceScan::FinishOne() {
  --under_way_;
  IdentifyMore();
}

}  // namespace sma::storage_target::initiator
