// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/namespace_table.h"

#include <algorithm>
#include <cassert>

#include "storage_target/bdev/bdev.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf {

NamespaceTable::~NamespaceTable() {
  assert(removing_.empty());
  assert(std::all_of(entries_.begin(), entries_.end(), [](const auto& entry) { return !entry; }));
}

void NamespaceTable::Add(std::shared_ptr<const NamespaceInfo> info) {
  uint32_t nsid = info->nsid;
  assert(nsid > 0 && Find(nsid) == nullptr);
  if (entries_.size() < nsid) entries_.resize(nsid);
  auto entry = std::make_unique<NamespaceEntry>(std::move(info), ++last_serial_);
  entry->channel_ = entry->info().descriptor->OpenChannel(reactor_);
  entries_[nsid - 1] = std::move(entry);
}

void NamespaceTable::Remove(uint32_t nsid, std::function<void()> done) {
  assert(Find(nsid) != nullptr);
  removing_.push_back(std::move(entries_[nsid - 1]));
  NamespaceEntry* entry = removing_.back().get();
  entry->on_unused_ = [this, entry, done = std::move(done)] {
    reactor_.Post([this, entry, done] {
      Close(entry);
      done();
    });
  };
  if (entry->holders_ == 0) entry->on_unused_();
}

void NamespaceTable::Close(NamespaceEntry* entry) {
  auto at = std::find_if(removing_.begin(), removing_.end(),
                         [&](const auto& e) { return e.get() == entry; });
  assert(at != removing_.end());
  removing_.erase(at);
}

void NamespaceTable::VisitFrom(uint32_t after,
                               const std::function<bool(NamespaceEntry&)>& visit) const {
  for (size_t i = after; i < entries_.size(); ++i) {
    if (entries_[i] && !visit(*entries_[i])) return;
  }
}

}  // namespace sma::storage_target::nvmf
