// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/poll_group.h"

#include <algorithm>
#include <utility>

#include "base/peer_log.h"
#include "spdlog/spdlog.h"

namespace sma::storage_target::nvmf::tcp {
namespace {

// Polling a socket without data costs a system call, so only a few are polled.
constexpr size_t kMaxHot = 8;
constexpr uint64_t kHotNs = 100'000;
constexpr std::chrono::seconds kProgressPeriod{1};
// The size of the pool for commands that do not fit into the slots of requests, for all connections
// of one reactor.
constexpr size_t kMinPoolSize = 64 << 20;
constexpr size_t kLargestCommandsInPool = 8;
constexpr size_t kMaxInputOfAll = 64 << 20;
constexpr size_t kMinInputSize = 12288;  // in addition to the data of a capsule

size_t PoolSize(const TransportLimits& limits) {
  return std::max<size_t>(kMinPoolSize, limits.max_io_size * kLargestCommandsInPool);
}

}  // namespace

PollGroup::PollGroup(ControlPlane& control_plane, Reactor& reactor, const Options& options,
                     Events events)
    : control_plane_(control_plane),
      reactor_(reactor),
      options_(options),
      events_(std::move(events)),
      pool_(reactor, PoolSize(options.limits)) {
  SetInputLimit();
}

// With many connections, each of them reads less at once, but always more than the largest PDU that
// is parsed as a whole.
void PollGroup::SetInputLimit() {
  size_t least = options_.limits.in_capsule_data_size + kMinInputSize;
  size_t each = kMaxInputOfAll / std::max<size_t>(connections_.size(), 1);
  input_limit_ = std::max(std::min(each, Connection::kInputSize), least);
}

void PollGroup::Adopt(uint64_t id, base::UniqueFd fd, TransportAddress listen_address,
                      TransportAddress peer_address) {
  if (when_shut_down_) return events_.closed(id);
  auto connection = std::make_unique<Connection>(
      *this, id, std::move(fd), std::move(listen_address), std::move(peer_address));
  if (!pool_.valid() || !connection->Open()) {
    base::LogOfPeers().Log(spdlog::level::err, connection->peer_address().address,
                           "{}: no resources for the connection",
                           connection->peer_address().ToString());
    return events_.closed(id);
  }
  connections_[id] = std::move(connection);
  if (!std::exchange(watching_, true)) reactor_.AddDelayWatch(this);
  SetInputLimit();
  if (progress_timer_ == 0) {
    progress_timer_ = reactor_.AddTimer(kProgressPeriod, [this] { CheckProgress(); });
  }
}

void PollGroup::Evict(uint64_t id, Admission::State state) {
  auto at = connections_.find(id);
  if (at != connections_.end()) at->second->Evict(state);
}

void PollGroup::CheckProgress() {
  for (auto& [id, connection] : connections_) {
    connection->CheckProgress(reactor_.now_ns());
    connection->ReleaseIdleMemory(reactor_.now_ns());
  }
  pool_.Trim();
  // Runs once more after the last connection has closed, so that its buffers are also released.
  bool idle = connections_.empty() && pool_.touched_bytes() == 0;
  progress_timer_ = idle ? 0 : reactor_.AddTimer(kProgressPeriod, [this] { CheckProgress(); });
}

void PollGroup::MarkHot(Connection& connection) {
  if (!polling_) reactor_.AddPoller(this);
  polling_ = true;
  bool is_hot = std::find(hot_.begin(), hot_.end(), &connection) != hot_.end();
  if (!is_hot && hot_.size() < kMaxHot) hot_.push_back(&connection);
}

bool PollGroup::Poll() {
  bool found = false;
  for (size_t i = 0; i < hot_.size();) {
    Connection& connection = *hot_[i];
    found |= connection.Poll();
    // Poll may have closed the connection and removed it from the list.
    if (i >= hot_.size() || hot_[i] != &connection) continue;
    if (reactor_.now_ns() - connection.last_receive_ns() > kHotNs) {
      hot_.erase(hot_.begin() + static_cast<ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
  if (hot_.empty() && polling_) {
    reactor_.RemovePoller(this);
    polling_ = false;
  }
  return found;
}

// Closing a connection does not change the table at once.
void PollGroup::OnDelay(uint64_t clock_ns) {
  for (auto& [id, connection] : connections_) connection->CheckHost(clock_ns);
}

void PollGroup::Forget(Connection& connection) { std::erase(hot_, &connection); }

void PollGroup::OnConnectCompleted(const Connection& connection) {
  events_.connected(connection.id(), connection.is_discovery());
}

void PollGroup::Destroy(Connection& connection) {
  uint64_t id = connection.id();
  connections_.erase(id);
  SetInputLimit();
  events_.closed(id);
  FinishShutdown();
}

void PollGroup::Shutdown(std::function<void()> done) {
  when_shut_down_ = std::move(done);
  for (auto& [id, connection] : connections_) connection->Disconnect();
  FinishShutdown();
}

void PollGroup::FinishShutdown() {
  if (!connections_.empty() || !when_shut_down_) return;
  reactor_.CancelTimer(std::exchange(progress_timer_, 0));
  if (std::exchange(polling_, false)) reactor_.RemovePoller(this);
  if (std::exchange(watching_, false)) reactor_.RemoveDelayWatch(this);
  when_shut_down_();
}

}  // namespace sma::storage_target::nvmf::tcp
