// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/remote_subsystem.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "storage_target/bdev_modules/nvme/driver_info.h"

namespace sma::storage_target::bdev_nvme {

using initiator::Address;

namespace {

constexpr std::chrono::seconds kRemovalGrace{5};

}  // namespace

std::shared_ptr<RemoteSubsystem> RemoteSubsystem::Make(Environment& environment,
                                                       const std::string& name, OnGone on_gone) {
  std::shared_ptr<RemoteSubsystem> made(new RemoteSubsystem(environment, name, std::move(on_gone)));
  made->MakeQueues();
  return made;
}

RemoteSubsystem::RemoteSubsystem(Environment& environment, std::string name, OnGone on_gone)
    : environment_(environment),
      control_(environment.registry.control()),
      name_(std::move(name)),
      on_gone_(std::move(on_gone)),
      policy_(environment.options.policy) {}

RemoteSubsystem::~RemoteSubsystem() { control_.CancelTimer(removal_timer_); }

void RemoteSubsystem::SetPolicy(MultipathPolicy policy) {
  policy_ = policy;
  ModuleOptions options = environment_.options;
  options.policy = policy;
  NotifyQueues([options](SubsystemQueues& queues) { queues.SetPolicy(options); });
}

void RemoteSubsystem::AddPath(Path::Options options, AttachDone done) {
  Member member;
  member.path = std::make_unique<Path>(control_, options, static_cast<Path::Owner&>(*this));
  member.on_attached = std::move(done);
  Path& path = *member.path;
  members_.push_back(std::move(member));
  path.Start();
}

void RemoteSubsystem::AddAlternative(const Address& address) {
  members_.front().path->AddAlternative(address);
}

bool RemoteSubsystem::HasAddress(const Address& address) const {
  return std::any_of(members_.begin(), members_.end(),
                     [&](const Member& member) { return member.path->HasAddress(address); });
}

bool RemoteSubsystem::IsOnlyAddress(const Address& address) const {
  return members_.size() == 1 && HasAddress(address) &&
         members_.front().path->options().alternatives.empty();
}

int RemoteSubsystem::RemoveAddress(const Address& address, std::function<void()> done) {
  if (removing_ && HasAddress(address)) {
    Remove(std::move(done));
    return 0;
  }
  for (Member& member : members_) {
    if (!member.path->HasAddress(address)) continue;
    if (member.path->RemoveAlternative(address)) {
      control_.Post(std::move(done));
    } else {
      Drop(member.path->id(), done);
    }
    return 0;
  }
  return ENODEV;
}

std::vector<const Path*> RemoteSubsystem::paths() const {
  std::vector<const Path*> paths;
  for (const Member& member : members_) paths.push_back(member.path.get());
  return paths;
}

RemoteSubsystem::Member* RemoteSubsystem::Find(uint64_t path_id) {
  auto found = std::find_if(members_.begin(), members_.end(),
                            [&](const Member& member) { return member.path->id() == path_id; });
  return found == members_.end() ? nullptr : &*found;
}

void RemoteSubsystem::Reset(std::function<void(int error)> done) {
  if (removing_) return done(ENXIO);
  struct Pending {
    size_t left;
    int error = 0;
  };
  auto pending = std::make_shared<Pending>(Pending{members_.size()});
  for (Member& member : members_) {
    member.path->Reset([pending, done](int error) {
      if (error != 0) pending->error = error;
      if (--pending->left == 0) done(pending->error);
    });
  }
}

// This is posted, because the path is on the call stack.
void RemoteSubsystem::DropLater(uint64_t path_id) {
  control_.Post([weak = weak_from_this(), path_id] {
    auto self = weak.lock();
    if (!self || self->removing_ || self->Find(path_id) == nullptr) return;
    bool whole = self->members_.size() == 1;
    self->Drop(path_id, [self, whole] { self->on_gone_(*self, whole); });
  });
}

void RemoteSubsystem::Drop(uint64_t path_id, const std::function<void()>& done) {
  if (members_.size() == 1) return Remove(done);
  auto member = std::make_shared<Member>(std::move(*Find(path_id)));
  std::shared_ptr<void> association = ClosePathQueues(*member->path);
  std::erase_if(members_, [](const Member& left) { return left.path == nullptr; });
  UpdateFailing();
  Reconcile();
  member->path->Shutdown([member, association = std::move(association), done] { done(); });
}

void RemoteSubsystem::Remove(std::function<void()> done) {
  on_removed_.push_back(std::move(done));
  if (removing_) return;
  removing_ = true;
  // I/O that is still unanswered at that time ends when its connections are closed.
  removal_timer_ = control_.AddTimer(kRemovalGrace, [this] {
    removal_timer_ = 0;
    for (const Member& member : members_) {
      uint64_t path_id = member.path->id();
      NotifyQueues([path_id](SubsystemQueues& queues) { queues.PathDown(path_id); });
    }
  });
  for (Member& member : members_) {
    Answer(member, base::ErrnoOr<std::vector<std::string>>::Error(ECANCELED));
  }
  UpdateFailing();
  std::vector<uint32_t> nsids;
  for (const auto& [nsid, ns] : namespaces_) nsids.push_back(nsid);
  for (uint32_t nsid : nsids) UnregisterBdev(nsid);
  ShutDownWhenEmpty();
}

void RemoteSubsystem::ShutDownWhenEmpty() {
  if (!removing_ || !namespaces_.empty()) return;
  control_.CancelTimer(std::exchange(removal_timer_, 0));
  auto left = std::make_shared<size_t>(members_.size());
  for (Member& member : members_) {
    uint64_t path_id = member.path->id();
    NotifyQueues([path_id](SubsystemQueues& queues) { queues.PathDown(path_id); });
    member.path->Shutdown([self = shared_from_this(), left] {
      if (--*left > 0) return;
      // This is posted, because the path that calls this function is still in use.
      self->control_.Post([self] {
        for (auto& removed : std::exchange(self->on_removed_, {})) removed();
      });
    });
  }
}

}  // namespace sma::storage_target::bdev_nvme
