// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/discovery_service.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "storage_target/bdev_modules/nvme/nvme_module.h"
#include "storage_target/nvme/fabrics.h"

namespace sma::storage_target::bdev_nvme {

using initiator::Address;
using initiator::DiscoveryEntry;
using nvme::DiscoverySubtype;

namespace {

// Limits of the pauses between attempts to reach a discovery controller, and to attach a subsystem.
constexpr std::chrono::milliseconds kShortestPause{100};
constexpr std::chrono::milliseconds kLongestPause{5000};
// The maximum number of endpoints, since referrals may be circular or numerous.
constexpr size_t kMaxEndpoints = 16;

// Returns a function that calls `done` when it has been called `count` times.
std::function<void()> WhenAll(size_t count, std::function<void()> done) {
  auto left = std::make_shared<size_t>(count);
  return [left, done = std::move(done)] {
    if (--*left == 0) done();
  };
}

}  // namespace

DiscoveryService::DiscoveryService(NvmeModule& module, const Options& options,
                                   std::function<void()> on_timeout)
    : module_(module),
      reactor_(module.control()),
      options_(options),
      on_timeout_(std::move(on_timeout)) {}

DiscoveryService::~DiscoveryService() {
  reactor_.CancelTimer(start_timer_);
  for (auto& [entry, attachment] : attachments_) reactor_.CancelTimer(attachment.timer);
}

void DiscoveryService::Start(std::function<void(int error)> done) {
  AddEndpoint(options_.address);
  if (!options_.wait_for_attach) return done(0);
  on_started_ = std::move(done);
  if (options_.attach_timeout.count() == 0) return;
  start_timer_ = reactor_.AddTimer(options_.attach_timeout, [this] {
    start_timer_ = 0;
    Answer(ETIMEDOUT);
    on_timeout_();
  });
}

void DiscoveryService::Answer(int error) {
  reactor_.CancelTimer(std::exchange(start_timer_, 0));
  if (on_started_) std::exchange(on_started_, nullptr)(error);
}

void DiscoveryService::Stop(std::function<void()> done) {
  stopping_ = true;
  Answer(ECANCELED);
  auto one_done = WhenAll(endpoints_.size() + attachments_.size(), std::move(done));
  for (auto& endpoint : endpoints_) endpoint->Shutdown(one_done);
  while (!attachments_.empty()) Release(attachments_.begin()->first, one_done);
}

void DiscoveryService::AddEndpoint(const Address& address) {
  AttachOptions options;
  options.address = address;
  options.subnqn = nvme::kDiscoveryNqn;
  options.hostnqn = options_.hostnqn;
  endpoints_.push_back(
      std::make_unique<DiscoveryEndpoint>(reactor_, module_.MakeControllerOptions(options),
                                          kLongestPause, [this] { OnEndpointChange(); }));
  endpoints_.back()->Start();
}

DiscoveryEndpoint* DiscoveryService::FindEndpoint(const Address& address) const {
  for (const auto& endpoint : endpoints_) {
    if (endpoint->address() == address) return endpoint.get();
  }
  return nullptr;
}

std::vector<DiscoveryEntry> DiscoveryService::referrals() const {
  if (stopping_) return {};
  const auto& log = endpoints_.front()->log();
  if (!log) {
    return {{DiscoverySubtype::kCurrentDiscovery, options_.address, nvme::kDiscoveryNqn}};
  }
  std::vector<DiscoveryEntry> found;
  for (const DiscoveryEntry& entry : *log) {
    if (entry.subtype != DiscoverySubtype::kNvm) found.push_back(entry);
  }
  return found;
}

bool DiscoveryService::Serves(const Address& address) const {
  if (FindEndpoint(address) != nullptr) return true;
  const std::vector<DiscoveryEntry> others = referrals();
  return std::any_of(others.begin(), others.end(),
                     [&](const DiscoveryEntry& entry) { return entry.address == address; });
}

void DiscoveryService::OnEndpointChange() {
  if (stopping_) return;
  UpdateEndpoints();
  UpdateAttachments();
  AnswerWhenAttached();
}

// Connects to services that are newly referred to, and disconnects from those that are no longer
// referred to.
void DiscoveryService::UpdateEndpoints() {
  std::vector<Address> reachable{options_.address};
  for (size_t i = 0; i < reachable.size(); ++i) {
    const DiscoveryEndpoint* endpoint = FindEndpoint(reachable[i]);
    if (endpoint == nullptr || !endpoint->log()) continue;
    for (const DiscoveryEntry& entry : *endpoint->log()) {
      bool known = std::find(reachable.begin(), reachable.end(), entry.address) != reachable.end();
      if (entry.subtype == DiscoverySubtype::kReferral && !known &&
          reachable.size() < kMaxEndpoints) {
        reachable.push_back(entry.address);
      }
    }
  }
  for (const Address& address : reachable) {
    if (FindEndpoint(address) == nullptr) AddEndpoint(address);
  }
  for (size_t i = endpoints_.size(); i-- > 0;) {
    const Address& address = endpoints_[i]->address();
    if (std::find(reachable.begin(), reachable.end(), address) != reachable.end()) continue;
    std::shared_ptr<DiscoveryEndpoint> left = std::move(endpoints_[i]);
    endpoints_.erase(endpoints_.begin() + static_cast<ptrdiff_t>(i));
    left->Shutdown([left] {});
  }
}

// Returns the entries in the order of the logs, which determines the numbers of the subsystems.
std::vector<DiscoveryEntry> DiscoveryService::WantedEntries() const {
  std::vector<DiscoveryEntry> wanted;
  std::set<DiscoveryEntry> seen;
  for (const auto& endpoint : endpoints_) {
    if (!endpoint->log()) continue;
    for (const DiscoveryEntry& entry : *endpoint->log()) {
      if (entry.subtype == DiscoverySubtype::kNvm && seen.insert(entry).second) {
        wanted.push_back(entry);
      }
    }
  }
  return wanted;
}

void DiscoveryService::UpdateAttachments() {
  const std::vector<DiscoveryEntry> wanted = WantedEntries();
  const std::set<DiscoveryEntry> is_wanted(wanted.begin(), wanted.end());
  std::vector<DiscoveryEntry> unwanted;
  for (const auto& [entry, attachment] : attachments_) {
    if (!is_wanted.contains(entry)) unwanted.push_back(entry);
  }
  for (const DiscoveryEntry& entry : unwanted) Release(entry, [] {});
  for (const DiscoveryEntry& entry : wanted) {
    if (attachments_.try_emplace(entry).second) Attach(entry);
  }
}

std::string DiscoveryService::NameFor(const std::string& subnqn) {
  auto [found, is_new] = names_.try_emplace(subnqn);
  if (is_new) found->second = options_.name + std::to_string(next_number_++);
  return found->second;
}

void DiscoveryService::Attach(const DiscoveryEntry& entry) {
  Attachment& attachment = attachments_[entry];
  if (module_.HasPath(entry.subnqn, options_.hostnqn, entry.address)) {
    attachment.state = Attachment::State::kElsewhere;
    return;
  }
  AttachOptions options;
  options.name = attachment.subsystem = NameFor(entry.subnqn);
  options.address = entry.address;
  options.subnqn = entry.subnqn;
  options.hostnqn = options_.hostnqn;
  options.reconnect = options_.reconnect;
  attachment.state = Attachment::State::kAttaching;
  AttachRefusal refusal = module_.Attach(
      options, [this, self = std::weak_ptr(self_), entry, name = options.name](auto names) {
        if (!self.expired()) OnAttached(entry, name, names.error());
      });
  if (refusal == AttachRefusal::kNone) return;
  if (refusal != AttachRefusal::kDetaching)
    names_.erase(entry.subnqn);  // the name is in use by another subsystem
  RetryLater(entry);
}

void DiscoveryService::OnAttached(const DiscoveryEntry& entry, const std::string& subsystem,
                                  int error) {
  auto found = attachments_.find(entry);
  bool wanted = found != attachments_.end() && !stopping_ &&
                found->second.state == Attachment::State::kAttaching;
  if (!wanted) {
    if (error == 0) module_.Detach(subsystem, {entry.address, entry.subnqn}, [] {});
    return;
  }
  if (error == 0) {
    found->second.state = Attachment::State::kAttached;
    found->second.back_off.Reset();
  } else {
    RetryLater(entry);
  }
  AnswerWhenAttached();
}

void DiscoveryService::RetryLater(const DiscoveryEntry& entry) {
  Attachment& attachment = attachments_[entry];
  attachment.state = Attachment::State::kWaiting;
  auto pause = std::max(attachment.back_off.Next(), kShortestPause);
  attachment.timer = reactor_.AddTimer(pause, [this, entry] {
    attachments_[entry].timer = 0;
    Attach(entry);
  });
}

void DiscoveryService::Release(const DiscoveryEntry& entry, std::function<void()> done) {
  const DiscoveryEntry released = entry;
  Attachment attachment = std::move(attachments_.extract(entry).mapped());
  reactor_.CancelTimer(attachment.timer);
  bool own = attachment.state == Attachment::State::kAttached ||
             attachment.state == Attachment::State::kAttaching;
  if (!own ||
      module_.Detach(attachment.subsystem, {released.address, released.subnqn}, done) != 0) {
    reactor_.Post(std::move(done));
  }
}

bool DiscoveryService::HasAttached(const std::string& subsystem) const {
  return std::any_of(attachments_.begin(), attachments_.end(), [&](const auto& attached) {
    return attached.second.subsystem == subsystem &&
           attached.second.state != Attachment::State::kElsewhere;
  });
}

void DiscoveryService::OnPathGone(const std::string& subnqn, bool by_request) {
  if (stopping_) return;
  std::vector<DiscoveryEntry> gone;
  for (const auto& [entry, attachment] : attachments_) {
    bool had_path = attachment.state == Attachment::State::kAttached ||
                    attachment.state == Attachment::State::kElsewhere;
    if (had_path && entry.subnqn == subnqn &&
        !module_.HasPath(entry.subnqn, options_.hostnqn, entry.address)) {
      gone.push_back(entry);
    }
  }
  for (const DiscoveryEntry& entry : gone) {
    Attachment& attachment = attachments_[entry];
    if (by_request && attachment.state == Attachment::State::kAttached) {
      attachment.state = Attachment::State::kReleased;
    } else {
      RetryLater(entry);
    }
  }
}

// A subsystem that cannot be attached must not delay the others; but if none could be attached, the
// result is an error.
void DiscoveryService::AnswerWhenAttached() {
  bool settled = std::all_of(endpoints_.begin(), endpoints_.end(),
                             [](const auto& endpoint) { return endpoint->settled(); });
  bool any_attached = false;
  for (const auto& [entry, attachment] : attachments_) {
    if (attachment.state == Attachment::State::kAttaching) return;
    any_attached |= attachment.state == Attachment::State::kAttached ||
                    attachment.state == Attachment::State::kElsewhere;
  }
  if (settled && any_attached) Answer(0);
}

}  // namespace sma::storage_target::bdev_nvme
