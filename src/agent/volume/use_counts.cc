// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/use_counts.h"

namespace sma::volume {

using base::LockTable;
using base::MutexLock;

UseCounts::Held::Held(UseCounts& counts, LockTable::Held lock, std::string name)
    : counts_(&counts), lock_(std::move(lock)), name_(std::move(name)) {
  MutexLock map_lock(counts_->mutex_);
  users_ = &counts_->users_[name_];
}

UseCounts::Held::Held(Held&& other) noexcept
    : counts_(std::exchange(other.counts_, nullptr)),
      lock_(std::move(other.lock_)),
      name_(std::move(other.name_)),
      users_(other.users_) {}

UseCounts::Held::~Held() {
  if (counts_ == nullptr || !users_->empty()) return;
  MutexLock map_lock(counts_->mutex_);
  counts_->users_.erase(name_);
}

void UseCounts::Add(const std::string& name, const base::Uuid& user) {
  MutexLock lock(mutex_);
  users_[name].insert(user);
}

absl::StatusOr<UseCounts::Held> UseCounts::Lock(const base::Context& context,
                                                const std::string& name) {
  absl::StatusOr<LockTable::Held> lock = locks_.Acquire(context, {{.name = name}});
  if (!lock.ok()) return lock.status();
  return Held(*this, *std::move(lock), name);
}

bool UseCounts::IsUsed(const std::string& name) const {
  MutexLock lock(mutex_);
  return users_.contains(name);
}

}  // namespace sma::volume
