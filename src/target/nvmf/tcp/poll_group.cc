#include "target/nvmf/tcp/poll_group.h"

#include <algorithm>
#include <utility>

#include "spdlog/spdlog.h"

namespace sma::target::nvmf::tcp {
namespace {

// Looking at a socket in vain costs a system call, so it is done for few.
constexpr size_t kMaxHot = 8;
constexpr uint64_t kHotNs = 100'000;
constexpr std::chrono::seconds kProgressPeriod{1};
// For commands larger than the requests' own memory, of all connections of one reactor.
constexpr size_t kMinPoolSize = 64 << 20;
constexpr size_t kLargestCommandsInPool = 8;
constexpr size_t kMaxInputOfAll = 64 << 20;
constexpr size_t kMinInputSize = 12288;  // beside data in a capsule

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

// With many connections each one reads less at once, but always more than the largest PDU that is
// parsed in one piece.
void PollGroup::SetInputLimit() {
  size_t least = options_.limits.in_capsule_data_size + kMinInputSize;
  size_t each = kMaxInputOfAll / std::max<size_t>(connections_.size(), 1);
  input_limit_ = std::max(std::min(each, Connection::kInputSize), least);
}

void PollGroup::Adopt(uint64_t id, base::UniqueFd fd, TransportAddress listen_address,
                      TransportAddress peer_address) {
  if (when_shut_down_) return events_.gone(id);
  auto connection = std::make_unique<Connection>(
      *this, id, std::move(fd), std::move(listen_address), std::move(peer_address));
  if (!pool_.valid() || !connection->Open()) {
    spdlog::error("{}: no resources for the connection", connection->peer_address().ToString());
    return events_.gone(id);
  }
  connections_[id] = std::move(connection);
  SetInputLimit();
  if (progress_timer_ == 0) {
    progress_timer_ = reactor_.AddTimer(kProgressPeriod, [this] { CheckProgress(); });
  }
}

void PollGroup::Evict(uint64_t id) {
  auto at = connections_.find(id);
  if (at != connections_.end()) at->second->Evict();
}

void PollGroup::CheckProgress() {
  for (auto& [id, connection] : connections_) {
    connection->CheckProgress(reactor_.now_ns());
    connection->ReleaseIdleMemory(reactor_.now_ns());
  }
  pool_.Trim();
  // Once more after the last connection, so that its buffers are given back, too.
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
    // Poll may have closed it, and so taken it off the list.
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

void PollGroup::Forget(Connection& connection) { std::erase(hot_, &connection); }

void PollGroup::OnLoggedIn(const Connection& connection) { events_.logged_in(connection.id()); }

void PollGroup::Destroy(Connection& connection) {
  uint64_t id = connection.id();
  connections_.erase(id);
  SetInputLimit();
  events_.gone(id);
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
  when_shut_down_();
}

}  // namespace sma::target::nvmf::tcp
