// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/errno_or.h"
#include "storage_target/bdev/registry.h"

// Helpers for modules whose bdevs are stacked on another bdev. Used only on the control reactor.

namespace sma::storage_target::bdev {

/// The claimed base bdev of a stacked bdev. The stacked bdev is removed when its base is removed,
/// and grows with it.
class BaseBdev final : public DescriptorEvents {
 public:
  /// Returns ENODEV, or EPERM if the base is claimed by another owner.
  static base::ErrnoOr<std::unique_ptr<BaseBdev>> Claim(Registry& registry, std::string_view name,
                                                        std::string claimant);

  /// Must be called before the stacked bdev is registered.
  void SetOwner(Bdev& owner) { owner_ = &owner; }

  Bdev& bdev() const { return descriptor_->bdev(); }
  Descriptor& descriptor() const { return *descriptor_; }

 private:
  explicit BaseBdev(Registry& registry) : registry_(registry) {}
  void OnBdevRemove() override;
  void OnBdevResize() override;

  Registry& registry_;
  Bdev* owner_ = nullptr;
  std::unique_ptr<Descriptor> descriptor_;
};

/// The requested stacked bdevs with the names of their bases. Each bdev is created when its base
/// appears, immediately or later, and recreated when a removed base reappears, until Remove is
/// called.
class StackedList final : public RegistryObserver {
 public:
  /// Creates and registers the stacked bdev on the existing base `base_name`. Returns 0 or an errno
  /// value.
  using Make = std::function<int(const std::string& base_name)>;

  explicit StackedList(Registry& registry);
  ~StackedList() override;

  /// Returns 0, even if the base does not exist yet; EEXIST if `name` is on the list; or the error
  /// of `make`, in which case `name` is not added.
  int Add(const std::string& name, const std::string& base_name, Make make);
  /// Returns false if `name` is not on the list.
  bool Remove(const std::string& name);

 private:
  struct Entry {
    std::string name;
    std::string base_name;
    Make make;
  };

  void OnBdevRegistered(Bdev& bdev) override;

  Registry& registry_;
  std::vector<Entry> entries_;
};

}  // namespace sma::storage_target::bdev
