// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/tcp_transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cassert>

#include "base/descriptor_limit.h"
#include "spdlog/spdlog.h"
#include "storage_target/nvmf/countdown.h"
#include "storage_target/nvmf/target.h"

namespace sma::storage_target::nvmf::tcp {
namespace {

// Pending connections may use half of the descriptors for connections, and those of a single
// address half of that.
Admission::Limits AdmissionLimits(const Options& options, uint32_t descriptor_limit) {
  Admission::Limits limits;
  uint32_t descriptors = descriptor_limit - base::DescriptorReserve(descriptor_limit);
  limits.connections = std::min(limits.connections, descriptors);
  if (options.max_connections != 0) limits.connections = options.max_connections;
  limits.pending = std::clamp(limits.connections / 2, 1u, limits.pending);
  limits.pending_of_address = std::clamp(limits.pending / 2, 1u, limits.pending_of_address);
  return limits;
}

constexpr uint64_t kReportPeriodNs = 10'000'000'000;

void Set(int fd, int level, int option, int value) {
  ::setsockopt(fd, level, option, &value, sizeof value);
}

void Configure(int fd, const Options& options) {
  Set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  // Detects a host that has disappeared without closing the connection, even if it did not request
  // keep-alive.
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
    : Transport(options.limits),
      target_(target),
      options_(options),
      descriptor_limit_(base::DescriptorLimit()),
      admission_(AdmissionLimits(options, descriptor_limit_), target.poll_groups().size(),
                 [this](Admission::Id id, size_t group, Admission::State state) {
                   groups_[group]->reactor().Post(
                       [&to = *groups_[group], id, state] { to.Evict(id, state); });
                 }) {
  // Shutdown waits for all tasks that the groups post.
  PollGroup::Events events{
      .connected =
          [this](uint64_t id, bool discovery) {
            target_.control().Post(
                [this, id, discovery] { admission_.SetConnected(id, discovery); });
          },
      .closed =
          [this](uint64_t id) { target_.control().Post([this, id] { admission_.Remove(id); }); }};
  for (const auto& group : target.poll_groups()) {
    groups_.push_back(std::make_unique<PollGroup>(target, *group->reactor, options, events));
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

size_t TcpTransport::ChooseGroup() {
  loads_.clear();
  for (size_t i = 0; i < groups_.size(); ++i) {
    const Target::PollGroup& group = *target_.poll_groups()[i];
    loads_.push_back(
        {.io_queue_pairs = group.current_io_queue_pairs,
         .admin_queue_pairs = group.current_admin_queue_pairs,
         .pending_connections = admission_.pending(i),
         .completed_commands = group.completed_commands.load(std::memory_order_relaxed)});
  }
  return placement_.Choose(loads_, target_.control().now_ns());
}

// The highest descriptors are reserved for JSON-RPC. A connection may be accepted in place of one
// that is about to be evicted, but only a few may be so at a time.
bool TcpTransport::HasRoom(int fd, const std::string& source) {
  uint32_t reserve = base::DescriptorReserve(descriptor_limit_);
  auto number = static_cast<uint32_t>(fd);
  if (number < descriptor_limit_ - reserve) return admission_.MakeRoom(source);
  return admission_.EvictOne() && number < descriptor_limit_ - reserve / 2;
}

void TcpTransport::ReportRefused(const TransportAddress& peer) {
  ++refused_;
  uint64_t now_ns = target_.control().now_ns();
  if (reported_ns_ != 0 && now_ns - reported_ns_ < kReportPeriodNs) return;
  spdlog::warn("{}: connection refused, {} connections are open; {} refused since the last report",
               peer.ToString(), admission_.connection_count(), std::exchange(refused_, 0));
  reported_ns_ = now_ns;
}

void TcpTransport::Accept(const Listener& listener, base::UniqueFd fd, TransportAddress peer) {
  std::string source = Admission::SourceOf(peer.address);
  if (!HasRoom(fd.get(), source)) {
    return ReportRefused(peer);
  }
  Configure(fd.get(), options_);
  size_t index = ChooseGroup();
  PollGroup& group = *groups_[index];
  Admission::Id id = admission_.Add(source, index);
  // A shared pointer is used, because std::function must be copyable.
  auto shared_fd = std::make_shared<base::UniqueFd>(std::move(fd));
  group.reactor().Post(
      [&group, id, shared_fd, listen_address = listener.address(), peer = std::move(peer)] {
        group.Adopt(id, std::move(*shared_fd), listen_address, peer);
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

}  // namespace sma::storage_target::nvmf::tcp
