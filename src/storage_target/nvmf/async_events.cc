// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/async_events.h"

#include <algorithm>
#include <utility>

#include "storage_target/nvmf/request.h"

namespace sma::storage_target::nvmf {

void AsyncEvents::Add(Request& request) {
  if (request_count_ == kRequestLimit) {
    return sink_->Complete(request, nvme::Status::kAsyncEventRequestLimitExceeded, 0);
  }
  requests_[request_count_++] = &request;
  Report();
}

bool AsyncEvents::Abort(uint16_t cid) {
  auto end = requests_.begin() + request_count_;
  auto at = std::find_if(requests_.begin(), end, [&](Request* r) { return r->command.cid == cid; });
  if (at == end) return false;
  Request* request = *at;
  std::move(at + 1, end, at);
  --request_count_;
  sink_->Complete(*request, nvme::Status::kAbortRequested, 0);
  return true;
}

void AsyncEvents::AbortAll(nvme::Status status) {
  size_t count = request_count_;
  request_count_ = 0;
  for (size_t i = 0; i < count; ++i) sink_->Complete(*requests_[i], status, 0);
}

void AsyncEvents::NamespaceChanged(uint32_t nsid) {
  if (changed_namespaces_.size() <= nvme::NamespaceList().size()) changed_namespaces_.insert(nsid);
  Record(events_[0]);
}

void AsyncEvents::NamespaceRemoved(uint32_t nsid, std::shared_ptr<void> unnotified) {
  if (sink_ != nullptr) unnotified_[nsid] = std::move(unnotified);
  NamespaceChanged(nsid);
}

// If more namespaces have changed than the page can list, the page names none of them.
void AsyncEvents::ChangedNamespacesRead() {
  if (changed_namespaces_.size() <= nvme::NamespaceList().size()) unnotified_.clear();
}

void AsyncEvents::NamespacesListed(uint32_t first, uint32_t last) {
  if (first <= last)
    unnotified_.erase(unnotified_.lower_bound(first), unnotified_.upper_bound(last));
}

void AsyncEvents::DiscoveryLogChanged() { Record(events_[1]); }

void AsyncEvents::PageRead(nvme::LogPage page) {
  if (page == nvme::LogPage::kChangedNamespaces) changed_namespaces_.clear();
  for (Event& event : events_) {
    if (event.page == page) event.masked = false;
  }
  Report();
}

nvme::NamespaceList AsyncEvents::changed_namespaces() const {
  nvme::NamespaceList list{};
  if (changed_namespaces_.size() > list.size()) {
    list[0] = nvme::kTooManyChangedNamespaces;
  } else {
    std::copy(changed_namespaces_.begin(), changed_namespaces_.end(), list.begin());
  }
  return list;
}

void AsyncEvents::Record(Event& event) {
  if ((config_ & event.config_bit) == 0) return;
  event.pending = true;
  Report();
}

void AsyncEvents::Report() {
  for (Event& event : events_) {
    if (!event.pending || event.masked || request_count_ == 0) continue;
    event.pending = false;
    event.masked = true;
    Request* request = requests_[0];
    std::move(requests_.begin() + 1, requests_.begin() + request_count_, requests_.begin());
    --request_count_;
    sink_->Complete(
        *request, nvme::Status::kSuccess,
        nvme::AsyncEventDw0(nvme::AsyncEventType::kNotice, static_cast<uint8_t>(event.notice),
                            static_cast<uint8_t>(event.page)));
  }
}

}  // namespace sma::storage_target::nvmf
