#include "target/nvmf/tcp/tcp_transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cassert>

#include "spdlog/spdlog.h"
#include "target/nvmf/countdown.h"
#include "target/nvmf/target.h"

namespace sma::target::nvmf::tcp {
namespace {

// Connections that have not sent a Connect yet, of one reactor; more are closed as they come.
constexpr uint64_t kMaxUnassociated = 1024;

void Set(int fd, int level, int option, int value) {
  ::setsockopt(fd, level, option, &value, sizeof value);
}

void Configure(int fd, const Options& options) {
  Set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  // A host that is gone without a word is noticed also when it asked for no keep-alive.
  Set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  Set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
  Set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  Set(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
  if (options.sock_priority != 0)
    Set(fd, SOL_SOCKET, SO_PRIORITY, static_cast<int>(options.sock_priority));
  if (options.ack_timeout_ms != 0)
    Set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(options.ack_timeout_ms));
}

}  // namespace

bool TcpTransport::IsValid(const Options& options) {
  const TransportLimits& limits = options.limits;
  return std::has_single_bit(limits.max_io_size) && limits.max_io_size >= 8192 &&
         limits.max_io_size <= 16 << 20 && limits.max_queue_depth >= 2 &&
         limits.max_queue_depth <= 0xffff && limits.max_admin_queue_depth >= 32 &&
         limits.max_admin_queue_depth <= 4096 && limits.max_io_queue_pairs >= 1 &&
         limits.max_io_queue_pairs <= 0xfffe && limits.in_capsule_data_size % 16 == 0 &&
         limits.in_capsule_data_size <= 65536;
}

TcpTransport::TcpTransport(Target& target, const Options& options)
    : Transport(options.limits), target_(target), options_(options) {
  for (const auto& group : target.poll_groups()) {
    groups_.push_back(std::make_unique<PollGroup>(target, *group->reactor, options));
  }
}

TcpTransport::~TcpTransport() = default;

base::ErrnoOr<uint16_t> TcpTransport::Listen(const TransportAddress& address,
                                             const std::string& /*subsystem_nqn*/) {
  for (auto& listener : listeners_) {
    if (!(listener->address() == address)) continue;
    ++listener->use_count;
    return listener->port_id;
  }
  auto opened =
      Listener::Open(target_.control(), address,
                     [this](Listener& listener, base::UniqueFd fd, TransportAddress peer) {
                       Accept(listener, std::move(fd), std::move(peer));
                     });
  if (!opened.ok()) return base::ErrnoOr<uint16_t>::Error(opened.error());
  (*opened)->port_id = ++last_port_id_;
  (*opened)->use_count = 1;
  listeners_.push_back(std::move(*opened));
  return last_port_id_;
}

void TcpTransport::StopListening(const TransportAddress& address,
                                 const std::string& /*subsystem_nqn*/) {
  auto at = std::find_if(listeners_.begin(), listeners_.end(),
                         [&](const auto& listener) { return listener->address() == address; });
  assert(at != listeners_.end());
  if (--(*at)->use_count == 0) listeners_.erase(at);
}

PollGroup& TcpTransport::GroupOf(const Reactor& reactor) {
  for (auto& group : groups_) {
    if (&group->reactor() == &reactor) return *group;
  }
  assert(false);
  return *groups_[0];
}

void TcpTransport::Accept(const Listener& listener, base::UniqueFd fd, TransportAddress peer) {
  Reactor& reactor = target_.NextReactor();
  if (target_.PollGroupOf(reactor).unassociated_queue_pairs.load(std::memory_order_relaxed) >=
      kMaxUnassociated) {
    spdlog::warn("{}: closed, too many connections have not sent a Connect yet", peer.ToString());
    return;
  }
  Configure(fd.get(), options_);
  PollGroup& group = GroupOf(reactor);
  // std::function must be copyable.
  auto shared_fd = std::make_shared<base::UniqueFd>(std::move(fd));
  reactor.Post([&group, shared_fd, listen_address = listener.address(), peer = std::move(peer)] {
    group.Adopt(std::move(*shared_fd), listen_address, peer);
  });
}

void TcpTransport::Shutdown(std::function<void()> done) {
  assert(listeners_.empty());
  auto stopped = Countdown(groups_.size(), std::move(done));
  for (auto& group : groups_) {
    group->reactor().Post([this, &group = *group, stopped] {
      group.Shutdown([this, stopped] { target_.control().Post(stopped); });
    });
  }
}

}  // namespace sma::target::nvmf::tcp
