// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/channel_table.h"

#include <algorithm>

#include "storage_target/bdev/channel.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev {
namespace {

/// Posts `done` when the last token is released.
struct Last {
  Last(Reactor& c, std::function<void()> d) : control(c), done(std::move(d)) {}
  ~Last() { control.Post(std::move(done)); }
  Last(const Last&) = delete;
  Last& operator=(const Last&) = delete;

  Reactor& control;
  std::function<void()> done;
};

}  // namespace

void ChannelTable::Add(Channel& channel) {
  base::MutexLock lock(mutex_);
  entries_.push_back({++last_id_, &channel, &channel.reactor()});
}

void ChannelTable::Remove(Channel& channel) {
  base::MutexLock lock(mutex_);
  std::erase_if(entries_, [&](const Entry& entry) { return entry.channel == &channel; });
  closed_stats_ += channel.stats();
  if (removing_ && entries_.empty()) control_.Post(on_last_closed_);
}

void ChannelTable::MarkRemoving() {
  base::MutexLock lock(mutex_);
  removing_ = true;
}

bool ChannelTable::empty() const {
  base::MutexLock lock(mutex_);
  return entries_.empty();
}

// A channel is destroyed only on its own thread, so the result remains valid while the caller runs
// on that thread.
Channel* ChannelTable::Find(uint64_t id) const {
  base::MutexLock lock(mutex_);
  auto found = std::find_if(entries_.begin(), entries_.end(),
                            [&](const Entry& entry) { return entry.id == id; });
  return found == entries_.end() ? nullptr : found->channel;
}

void ChannelTable::ForEach(const std::function<void(Channel&, Token)>& task,
                           std::function<void()> done) {
  auto token = std::make_shared<Last>(control_, std::move(done));
  base::MutexLock lock(mutex_);
  for (const Entry& entry : entries_) {
    entry.reactor->Post(
        [self = shared_from_this(), id = entry.id, task, token = Token(token)]() mutable {
          if (Channel* channel = self->Find(id)) task(*channel, std::move(token));
        });
  }
}

IoStats ChannelTable::stats() const {
  base::MutexLock lock(mutex_);
  IoStats sum = closed_stats_;
  for (const Entry& entry : entries_) sum += entry.channel->stats();
  return sum;
}

std::vector<std::pair<const Reactor*, IoStats>> ChannelTable::channel_stats() const {
  base::MutexLock lock(mutex_);
  std::vector<std::pair<const Reactor*, IoStats>> all;
  for (const Entry& entry : entries_) all.emplace_back(entry.reactor, entry.channel->stats());
  return all;
}

void ChannelTable::ResetClosedStats(bool min_max_only) {
  base::MutexLock lock(mutex_);
  if (!min_max_only) closed_stats_ = {};
  for (IoStats::PerType& type : closed_stats_.by_type) {
    type.min_latency_ns = 0;
    type.max_latency_ns = 0;
  }
}

}  // namespace sma::storage_target::bdev
