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

}  // namespace

void PollGroup::Adopt(base::UniqueFd fd, TransportAddress listen_address,
                      TransportAddress peer_address) {
  if (when_shut_down_) return;
  auto connection = std::make_unique<Connection>(*this, std::move(fd), std::move(listen_address),
                                                 std::move(peer_address));
  if (!connection->Open()) {
    spdlog::error("{}: no resources for the connection", connection->peer_address().ToString());
    return;
  }
  Connection* key = connection.get();
  connections_[key] = std::move(connection);
  if (progress_timer_ == 0) {
    progress_timer_ = reactor_.AddTimer(kProgressPeriod, [this] { CheckProgress(); });
  }
}

void PollGroup::CheckProgress() {
  for (auto& [key, connection] : connections_) connection->CheckProgress(reactor_.now_ns());
  progress_timer_ =
      connections_.empty() ? 0 : reactor_.AddTimer(kProgressPeriod, [this] { CheckProgress(); });
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

void PollGroup::Destroy(Connection& connection) {
  connections_.erase(&connection);
  FinishShutdown();
}

void PollGroup::Shutdown(std::function<void()> done) {
  when_shut_down_ = std::move(done);
  for (auto& [key, connection] : connections_) connection->Disconnect();
  FinishShutdown();
}

void PollGroup::FinishShutdown() {
  if (!connections_.empty() || !when_shut_down_) return;
  reactor_.CancelTimer(progress_timer_);
  if (std::exchange(polling_, false)) reactor_.RemovePoller(this);
  when_shut_down_();
}

}  // namespace sma::target::nvmf::tcp
