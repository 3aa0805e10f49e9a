#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/errno_or.h"
#include "target/bdev/registry.h"

// What modules share whose bdevs sit on another bdev. Control reactor only.

namespace sma::target::bdev {

/// The bdev below, claimed; part of the stacked bdev, which goes when its base goes and grows when
/// it grows.
class BaseBdev final : public DescriptorEvents {
 public:
  /// ENODEV, or EPERM: somebody else claimed it.
  static base::ErrnoOr<std::unique_ptr<BaseBdev>> Claim(Registry& registry, std::string_view name,
                                                        std::string claimant);

  /// To be called before the stacked bdev is registered.
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

/// Stacked bdevs that were asked for, each with the name of its base: made when the base is there,
/// at once or later, and made again when a base that went comes back, until Remove.
class StackedList final : public RegistryObserver {
 public:
  /// Makes and registers the stacked bdev on the base of this name, which exists. 0 or an errno
  /// value.
  using Make = std::function<int(const std::string& base_name)>;

  explicit StackedList(Registry& registry);
  ~StackedList() override;

  /// 0 also when the base does not exist yet. EEXIST: `name` is on the list already; or what `make`
  /// says, and then it is not on the list.
  int Add(const std::string& name, const std::string& base_name, Make make);
  /// False when it is not on the list.
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

}  // namespace sma::target::bdev
