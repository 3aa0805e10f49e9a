// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/stacked.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace sma::storage_target::bdev {

base::ErrnoOr<std::unique_ptr<BaseBdev>> BaseBdev::Claim(Registry& registry, std::string_view name,
                                                         std::string claimant) {
  using Result = base::ErrnoOr<std::unique_ptr<BaseBdev>>;
  std::unique_ptr<BaseBdev> base(new BaseBdev(registry));
  auto opened = registry.Open(name, Registry::Access::kRead, base.get());
  if (!opened.ok()) return Result::Error(opened.error());
  base->descriptor_ = std::move(*opened);
  if (int error = base->descriptor_->Claim(std::move(claimant)); error != 0) {
    return Result::Error(error);
  }
  return base;
}

void BaseBdev::OnBdevRemove() { registry_.Unregister(*owner_, nullptr); }

void BaseBdev::OnBdevResize() {
  if (int error = registry_.Resize(*owner_, bdev().block_count()); error != 0) {
    spdlog::warn("{}: cannot change the size with {}: {}", owner_->name(), bdev().name(),
                 strerror(error));
  }
}

StackedList::StackedList(Registry& registry) : registry_(registry) { registry_.AddObserver(this); }

StackedList::~StackedList() { registry_.RemoveObserver(this); }

int StackedList::Add(const std::string& name, const std::string& base_name, Make make) {
  bool listed = std::any_of(entries_.begin(), entries_.end(),
                            [&](const Entry& entry) { return entry.name == name; });
  if (listed) return EEXIST;
  if (registry_.Find(base_name) != nullptr) {
    if (int error = make(base_name); error != 0) return error;
  }
  entries_.push_back({name, base_name, std::move(make)});
  return 0;
}

bool StackedList::Remove(const std::string& name) {
  return std::erase_if(entries_, [&](const Entry& entry) { return entry.name == name; }) != 0;
}

void StackedList::OnBdevRegistered(Bdev& bdev) {
  for (const Entry& entry : std::vector(entries_)) {
    if (registry_.Find(entry.base_name) != &bdev) continue;
    if (int error = entry.make(entry.base_name); error != 0) {
      spdlog::error("{} on {}: {}", entry.name, entry.base_name, strerror(error));
    }
  }
}

}  // namespace sma::storage_target::bdev
