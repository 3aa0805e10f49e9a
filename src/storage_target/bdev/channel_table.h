// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "storage_target/bdev/io.h"

namespace sma::storage_target {
class Reactor;
}

namespace sma::storage_target::bdev {

class Channel;

/// All channels of one bdev. Thread-safe. Shared by the bdev, its channels and the tasks posted to
/// them, so it may outlive each of them.
class ChannelTable : public std::enable_shared_from_this<ChannelTable> {
 public:
  /// Held for as long as a channel is busy with a task of ForEach.
  using Token = std::shared_ptr<void>;

  /// `on_last_closed` runs on `control` when the last channel closes after MarkRemoving.
  ChannelTable(Reactor& control, std::function<void()> on_last_closed)
      : control_(control), on_last_closed_(std::move(on_last_closed)) {}

  void Add(Channel& channel);
  void Remove(Channel& channel);
  void MarkRemoving();
  bool empty() const;

  /// Runs `task` for each channel on its own reactor and, when all tokens are released, `done` on
  /// the control reactor. Channels that close in the meantime are skipped. Does not block; `done`
  /// never runs before the return.
  void ForEach(const std::function<void(Channel&, Token)>& task, std::function<void()> done);

  /// Returns the sum over all channels, including closed ones.
  IoStats stats() const;
  /// Returns the statistics of each open channel with its reactor.
  std::vector<std::pair<const Reactor*, IoStats>> channel_stats() const;
  void ResetClosedStats(bool min_max_only);

 private:
  struct Entry {
    uint64_t id;
    Channel* channel;
    Reactor* reactor;
  };

  Channel* Find(uint64_t id) const;

  Reactor& control_;
  const std::function<void()> on_last_closed_;
  mutable base::Mutex mutex_;
  uint64_t last_id_ SMA_GUARDED_BY(mutex_) = 0;
  bool removing_ SMA_GUARDED_BY(mutex_) = false;
  std::vector<Entry> entries_ SMA_GUARDED_BY(mutex_);
  IoStats closed_stats_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::storage_target::bdev
