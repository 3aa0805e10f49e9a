// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "storage_target/bdev_modules/nvme/initiator/controller.h"
#include "storage_target/bdev_modules/nvme/initiator/identity.h"

namespace sma::storage_target::initiator {

/// Finds and identifies the namespaces of a controller. Used on the controller's thread.
class NamespaceScan {
 public:
  /// `complete` is true if the controller answered every command. `namespaces` are the usable ones,
  /// in ascending order of NSID.
  using Done = std::function<void(bool complete, std::vector<NamespaceInfo> namespaces)>;

  /// Starts the scan. `controller` must be ready and outlive the scan. `done` is called once,
  /// later, unless the scan is destroyed or the controller is closed first; it may destroy the
  /// scan.
  NamespaceScan(Controller& controller, Done done);
  NamespaceScan(const NamespaceScan&) = delete;
  NamespaceScan& operator=(const NamespaceScan&) = delete;

 private:
  // The number of namespaces that are identified concurrently.
  static constexpr size_t kParallel = 16;

  // `self` expires with the scan: later answers are dropped.
  using Weak = std::weak_ptr<NamespaceScan*>;
  static Controller::Callback Bound(Weak self,
                                    std::function<void(NamespaceScan&, const Controller::Result&)>);
  void ReadList(uint32_t after);
  void OnList(const Controller::Result& result, uint32_t after);
  void IdentifyMore();
  void OnNamespace(const Controller::Result& result, uint32_t nsid);
  void OnDescriptors(const Controller::Result& result, NamespaceInfo info);
  void FinishOne();

  Controller& controller_;
  Done done_;
  std::shared_ptr<NamespaceScan*> self_ = std::make_shared<NamespaceScan*>(this);
  std::vector<uint32_t> nsids_;
  size_t next_ = 0;
  size_t under_way_ = 0;
  bool complete_ = true;
  std::vector<NamespaceInfo> namespaces_;
};

}  // namespace sma::storage_target::initiator
