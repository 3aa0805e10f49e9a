// SPDX-License-Identifier: Apache-2.0

// The bdev events of the fake target.

#include "agent/spdk/json_read.h"
#include "agent/spdk/testing/fake_target.h"

namespace sma::spdk {

using jsonrpc::Json;

namespace {

constexpr size_t kMaxEvents = 1024;

}  // namespace

void FakeTarget::AddEvent(const char* type, const std::string& bdev_name) {
  if (events_.size() == kMaxEvents) events_.pop_front();
  events_.push_back({{"type", type}, {"ctx", bdev_name}, {"id", next_event_id_++}});
}

void FakeTarget::NoteEvents() {
  // Both containers are sorted by name, so they can be merged.
  auto noted = noted_bdevs_.begin();
  auto bdev = bdevs_.begin();
  while (noted != noted_bdevs_.end() || bdev != bdevs_.end()) {
    const bool is_last = noted == noted_bdevs_.end();
    if (bdev == bdevs_.end() || (!is_last && *noted < bdev->first)) {
      AddEvent("bdev_unregister", *noted);
      noted = noted_bdevs_.erase(noted);
    } else if (is_last || bdev->first < *noted) {
      AddEvent("bdev_register", bdev->first);
      noted_bdevs_.insert(noted, bdev->first);
      ++bdev;
    } else {
      ++noted;
      ++bdev;
    }
  }
}

FakeTarget::Answer FakeTarget::GetNotifications(const Json& params) {
  const uint64_t first_id = UintMember(params, "id").value_or(0);
  const uint64_t max = UintMember(params, "max").value_or(UINT64_MAX);
  Json list = Json::array();
  for (const Json& event : events_) {
    if (list.size() < max && event["id"].get<uint64_t>() >= first_id) list.push_back(event);
  }
  return list;
}

}  // namespace sma::spdk
