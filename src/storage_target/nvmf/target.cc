// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/target.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "absl/strings/match.h"
#include "base/nqn.h"
#include "storage_target/nvme/nqn.h"
#include "storage_target/nvmf/countdown.h"
#include "storage_target/nvmf/queue_pair.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf {
namespace {

// The size of each reactor's namespace table is proportional to the largest NSID.
constexpr uint32_t kMaxNamespaces = 1u << 20;

std::vector<std::unique_ptr<Target::PollGroup>> MakePollGroups(
    const std::vector<Reactor*>& reactors) {
  std::vector<std::unique_ptr<Target::PollGroup>> groups;
  for (Reactor* reactor : reactors) {
    groups.push_back(std::make_unique<Target::PollGroup>());
    groups.back()->reactor = reactor;
  }
  return groups;
}

bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  return absl::EqualsIgnoreCase({a.data(), a.size()}, {b.data(), b.size()});
}

// Serial number and model number are printable ASCII of limited size (NVMe Base 2.0 §5.17.2.1).
bool IsValidText(std::string_view text, size_t max_size) {
  return text.size() <= max_size &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

bool IsValid(const SubsystemOptions& options) {
  return base::IsValidNqn(options.nqn) && IsValidText(options.serial_number, 20) &&
         IsValidText(options.model_number, 40) && options.min_cntlid >= 1 &&
         options.min_cntlid <= options.max_cntlid &&
         options.max_cntlid <= SubsystemOptions().max_cntlid && options.max_namespaces >= 1 &&
         options.max_namespaces <= kMaxNamespaces;
}

}  // namespace

Target::Target(Reactor& control, std::vector<Reactor*> io_reactors, bdev::Registry& registry)
    : control_(control),
      registry_(registry),
      start_ns_(control.now_ns()),
      poll_groups_(MakePollGroups(io_reactors)) {
  assert(!poll_groups_.empty());
  SubsystemOptions discovery;
  discovery.nqn = nvme::kDiscoveryNqn;
  discovery.allow_any_host = true;
  [[maybe_unused]] auto made = CreateSubsystem(std::move(discovery));
  assert(made.ok());
}

Target::~Target() { assert(by_options_.empty()); }

int Target::AddTransport(std::unique_ptr<Transport> transport) {
  if (FindTransport(transport->type()) != nullptr) return EEXIST;
  transports_.push_back(std::move(transport));
  return 0;
}

Transport* Target::FindTransport(std::string_view type) const {
  for (const auto& transport : transports_) {
    if (EqualsIgnoreCase(transport->type(), type)) return transport.get();
  }
  return nullptr;
}

base::ErrnoOr<Subsystem*> Target::CreateSubsystem(SubsystemOptions options) {
  using Result = base::ErrnoOr<Subsystem*>;
  if (!IsValid(options)) return Result::Error(EINVAL);
  options.discovery = options.nqn == nvme::kDiscoveryNqn;
  if (FindSubsystem(options.nqn) != nullptr) return Result::Error(EEXIST);
  if (subsystems_.size() >= max_subsystems_) return Result::Error(ENOSPC);
  auto subsystem =
      std::make_unique<Subsystem>(registry_, std::move(options), [this] { OnDiscoveryChange(); });
  Subsystem* made = subsystem.get();
  by_options_[&made->options()] = made;
  subsystems_[made->options().nqn] = std::move(subsystem);
  return made;
}

void Target::DeleteSubsystem(Subsystem& subsystem, std::function<void()> done) {
  auto node = subsystems_.extract(subsystem.options().nqn);
  assert(!node.empty() && node.mapped().get() == &subsystem);
  std::shared_ptr<Subsystem> deleting = std::move(node.mapped());
  subsystem.Shutdown([this, deleting, done = std::move(done)] {
    by_options_.erase(&deleting->options());
    done();
  });
}

Subsystem* Target::FindSubsystem(std::string_view nqn) const {
  auto at = subsystems_.find(nqn);
  return at == subsystems_.end() ? nullptr : at->second.get();
}

Subsystem* Target::SubsystemOf(const Controller& controller) const {
  auto at = by_options_.find(&controller.subsystem());
  return at == by_options_.end() ? nullptr : at->second;
}

int Target::AddReferral(const Referral& referral) {
  for (const Referral& other : referrals_) {
    if (other.address == referral.address && other.subsystem_nqn == referral.subsystem_nqn)
      return EEXIST;
  }
  referrals_.push_back(referral);
  OnDiscoveryChange();
  return 0;
}

int Target::RemoveReferral(const Referral& referral) {
  auto at = std::find_if(referrals_.begin(), referrals_.end(), [&](const Referral& other) {
    return other.address == referral.address && other.subsystem_nqn == referral.subsystem_nqn;
  });
  if (at == referrals_.end()) return ENOENT;
  referrals_.erase(at);
  OnDiscoveryChange();
  return 0;
}

void Target::OnDiscoveryChange() {
  ++discovery_generation_;
  // There is at most one discovery subsystem, because its NQN is fixed.
  Subsystem* discovery = FindSubsystem(nvme::kDiscoveryNqn);
  if (discovery == nullptr) return;
  discovery->associations().Notify([](Controller& c) { c.async_events().DiscoveryLogChanged(); });
}

bool Target::IsListed(const Subsystem::Listener& listener, const TransportAddress& asked_at) const {
  if (!listener.transport->discoverable()) return false;
  TransportAddress address = listener.address;
  if (!discovery_filter_.same_transport) address.type = asked_at.type;
  if (!discovery_filter_.same_service_id) address.service_id = asked_at.service_id;
  if (!discovery_filter_.same_address) {
    address.family = asked_at.family;
    address.address = asked_at.address;
  }
  return address == asked_at;
}

std::shared_ptr<const DiscoveryLog> Target::MakeDiscoveryLog(
    const QueuePair& queue_pair, const std::shared_ptr<const DiscoveryLog>& present) const {
  if (present != nullptr && present->generation == discovery_generation_) return present;
  DiscoveryLogBuilder builder(discovery_generation_);
  for (const auto& [nqn, subsystem] : subsystems_) {
    if (!subsystem->IsHostAllowed(queue_pair.controller().host_nqn())) continue;
    for (const Subsystem::Listener& listener : subsystem->listeners()) {
      if (!IsListed(listener, queue_pair.listen_address())) continue;
      builder.AddSubsystem(
          nqn, subsystem->options().discovery, listener.address, listener.port_id,
          static_cast<uint16_t>(listener.transport->limits().max_admin_queue_depth));
    }
  }
  for (const Referral& referral : referrals_) builder.AddReferral(referral);
  return Share(builder.Finish());
}

// Shared by all hosts with equal log pages, because many hosts may be connected and each controller
// keeps its page.
std::shared_ptr<const DiscoveryLog> Target::Share(DiscoveryLog made) const {
  std::erase_if(discovery_logs_, [](const auto& weak) { return weak.expired(); });
  for (const auto& weak : discovery_logs_) {
    auto log = weak.lock();
    if (log != nullptr && log->page == made.page) return log;
  }
  auto log = std::make_shared<const DiscoveryLog>(std::move(made));
  discovery_logs_.push_back(log);
  return log;
}

Reactor& Target::NextReactor() {
  return *poll_groups_[next_reactor_++ % poll_groups_.size()]->reactor;
}

Target::PollGroup& Target::PollGroupOf(const Reactor& reactor) const {
  for (const auto& group : poll_groups_) {
    if (group->reactor == &reactor) return *group;
  }
  assert(false);
  return *poll_groups_[0];
}

void Target::Connect(QueuePair& queue_pair, const ConnectRequest& request, ConnectDone done) {
  if (request.command.record_format != 0)
    return done(ConnectResult::Error(nvme::Status::kConnectIncompatibleFormat));
  // If any host is allowed, an empty host NQN is accepted, as in SPDK and Linux.
  const auto& host_nqn = request.data.host_nqn;
  if (std::find(host_nqn.begin(), host_nqn.end(), '\0') == host_nqn.end()) {
    return done(ConnectResult::InvalidData(offsetof(nvme::ConnectData, host_nqn)));
  }
  Subsystem* subsystem = FindSubsystem(nvme::NulTerminated(request.data.subsystem_nqn));
  if (subsystem == nullptr)
    return done(ConnectResult::InvalidData(offsetof(nvme::ConnectData, subsystem_nqn)));
  PollGroup& group = PollGroupOf(queue_pair.reactor());
  subsystem->Connect(queue_pair, request,
                     [&group, done = std::move(done)](const ConnectResult& result) {
                       if (result.status == nvme::Status::kSuccess) {
                         const bool admin = result.queue_id == 0;
                         ++(admin ? group.admin_queue_pairs : group.io_queue_pairs);
                         ++(admin ? group.current_admin_queue_pairs : group.current_io_queue_pairs);
                       }
                       done(result);
                     });
}

void Target::AwaitLateIo(QueuePair& queue_pair, const std::shared_ptr<Controller>& controller,
                         uint16_t queue_id, std::chrono::milliseconds timeout) {
  Subsystem* subsystem = SubsystemOf(*controller);
  if (subsystem != nullptr) subsystem->AwaitLateIo(queue_pair, controller, queue_id, timeout);
}

void Target::NoteClosed(QueuePair& queue_pair, const Controller& controller) {
  SubsystemOf(controller)->associations().NoteClosed(queue_pair, controller);
}

void Target::RemoveQueuePair(QueuePair& queue_pair, const std::shared_ptr<Controller>& controller) {
  if (controller == nullptr) return;
  PollGroup& group = PollGroupOf(queue_pair.reactor());
  --(queue_pair.is_admin() ? group.current_admin_queue_pairs : group.current_io_queue_pairs);
  SubsystemOf(*controller)->associations().Remove(queue_pair, *controller);
}

void Target::AbortCommand(const Controller& controller, uint16_t queue_id, uint16_t cid,
                          std::function<void(bool)> done) {
  Subsystem* subsystem = SubsystemOf(controller);
  QueuePair* queue_pair = subsystem == nullptr
                              ? nullptr
                              : subsystem->associations().FindQueuePair(controller, queue_id);
  if (queue_pair == nullptr) return done(false);
  queue_pair->reactor().Post(
      [queue_pair, cid, done = std::move(done)] { done(queue_pair->Abort(cid)); });
}

Health Target::HealthOf(const Controller& controller) const {
  Subsystem* subsystem = SubsystemOf(controller);
  Health health = subsystem == nullptr ? Health() : subsystem->health();
  health.uptime_s = (control_.now_ns() - start_ns_) / 1'000'000'000;
  return health;
}

void Target::DisconnectIoQueues(std::shared_ptr<Controller> controller, Reactor& reactor,
                                std::function<void()> done) {
  control_.Post([this, controller, &reactor, done = std::move(done)] {
    auto answer = [controller, &reactor, done] { reactor.Post([controller, done] { done(); }); };
    Subsystem* subsystem = SubsystemOf(*controller);
    if (subsystem == nullptr) return answer();
    subsystem->associations().EndIoQueues(*controller, answer);
  });
}

void Target::Shutdown(std::function<void()> done) {
  // Transports are shut down last, so that the subsystems can first end their connections in an
  // orderly way.
  auto gone = Countdown(subsystems_.size(), [this, done = std::move(done)] {
    auto stopped = Countdown(transports_.size(), done);
    for (auto& transport : transports_) transport->Shutdown(stopped);
  });
  while (!subsystems_.empty()) DeleteSubsystem(*subsystems_.begin()->second, gone);
}

}  // namespace sma::storage_target::nvmf
