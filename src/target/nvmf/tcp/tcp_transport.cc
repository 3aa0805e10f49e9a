#include "target/nvmf/tcp/tcp_transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cassert>

#include "base/descriptor_limit.h"
#include "spdlog/spdlog.h"
#include "target/nvmf/countdown.h"
#include "target/nvmf/target.h"

namespace sma::target::nvmf::tcp {
namespace {

// Of the descriptors that connections may have, those without login get a half, and of these half a
// single address.
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
    : Transport(options.limits),
      target_(target),
      options_(options),
      descriptor_limit_(base::DescriptorLimit()),
      admission_(AdmissionLimits(options, descriptor_limit_), target.poll_groups().size(),
                 [this](Admission::Id id, size_t group) {
                   groups_[group]->reactor().Post([&to = *groups_[group], id] { to.Evict(id); });
                 }) {
  // Shutdown waits for all that the groups post.
  PollGroup::Events events{
      .logged_in =
          [this](uint64_t id) { target_.control().Post([this, id] { admission_.LoggedIn(id); }); },
      .gone = [this](uint64_t id) { target_.control().Post([this, id] { admission_.Gone(id); }); }};
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

// The descriptors near the limit are for JSON-RPC. One that an eviction is about to give back may
// be replaced at once, but not many of them.
bool TcpTransport::HasRoom(int fd, const std::string& source) {
  uint32_t reserve = base::DescriptorReserve(descriptor_limit_);
  auto number = static_cast<uint32_t>(fd);
  if (number < descriptor_limit_ - reserve) return admission_.MakeRoom(source);
  return admission_.EvictPending() && number < descriptor_limit_ - reserve / 2;
}

void TcpTransport::ReportRefused(const TransportAddress& peer) {
  ++refused_;
  uint64_t now_ns = target_.control().now_ns();
  if (reported_ns_ != 0 && now_ns - reported_ns_ < kReportPeriodNs) return;
  spdlog::warn("{}: connection refused, {} are open; {} refused since the last report",
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
  // std::function must be copyable.
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

}  // namespace sma::target::nvmf::tcp
