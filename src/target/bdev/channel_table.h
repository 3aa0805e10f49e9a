#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "target/bdev/io.h"

namespace sma::target {
class Reactor;
}

namespace sma::target::bdev {

class Channel;

/// The channels of one bdev, wherever they are. Thread-safe; shared by the bdev, its channels and
/// the work that is on its way to them, so that it may outlive all of them.
class ChannelTable : public std::enable_shared_from_this<ChannelTable> {
 public:
  /// Kept for as long as a channel is busy with what ForEach asked of it.
  using Token = std::shared_ptr<void>;

  /// `on_last_closed` runs in `control` when the last channel goes, once MarkRemoving was called.
  ChannelTable(Reactor& control, std::function<void()> on_last_closed)
      : control_(control), on_last_closed_(std::move(on_last_closed)) {}

  void Add(Channel& channel);
  void Remove(Channel& channel);
  void MarkRemoving();
  bool empty() const;

  /// Runs `task` for each channel in its own reactor; then, when all tokens are gone, `done` in the
  /// control reactor. Channels that close meanwhile are left out. Returns at once; `done` never
  /// runs before the return.
  void ForEach(const std::function<void(Channel&, Token)>& task, std::function<void()> done);

  /// Sum over the channels that are and were.
  IoStats stats() const;
  /// Of the channels that are, each with its reactor.
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

}  // namespace sma::target::bdev
