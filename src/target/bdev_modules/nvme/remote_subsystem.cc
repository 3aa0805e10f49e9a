#include "target/bdev_modules/nvme/remote_subsystem.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "target/bdev_modules/nvme/driver_info.h"

namespace sma::target::bdev_nvme {

using initiator::Address;
using initiator::NamespaceInfo;

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

RemoteSubsystem::~RemoteSubsystem() = default;

void RemoteSubsystem::MakeQueues() {
  for (Reactor* reactor : environment_.reactors) {
    auto on_lost = [weak = weak_from_this(), &control = control_](uint64_t path_id, uint64_t epoch,
                                                                  const std::string& reason) {
      control.Post([weak, path_id, epoch, reason] {
        auto self = weak.lock();
        Member* member = self ? self->Find(path_id) : nullptr;
        if (member != nullptr) member->path->OnQueueLost(epoch, reason);
      });
    };
    queues_.push_back(SubsystemQueues::Make(*reactor, on_lost));
  }
  SetPolicy(policy_);
}

void RemoteSubsystem::TellQueues(std::function<void(SubsystemQueues& queues)> what) {
  for (const auto& queues : queues_) {
    queues->reactor().Post([queues, what] { what(*queues); });
  }
}

void RemoteSubsystem::SetPolicy(MultipathPolicy policy) {
  policy_ = policy;
  ModuleOptions options = environment_.options;
  options.policy = policy;
  TellQueues([options](SubsystemQueues& queues) { queues.SetPolicy(options); });
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

void RemoteSubsystem::OnPathRefused(Path& path, const std::string& /*reason*/) {
  DropLater(path.id());
  Answer(*Find(path.id()), base::ErrnoOr<std::vector<std::string>>::Error(EIO));
}

void RemoteSubsystem::OnPathUp(Path& path) {
  Member& member = *Find(path.id());
  if (!member.was_up && !BelongsHere(path)) {
    spdlog::warn("nvme: {}: {} leads to another subsystem or to the same controller", name_,
                 path.association().address.ToString());
    DropLater(path.id());
    return Answer(member, base::ErrnoOr<std::vector<std::string>>::Error(EINVAL));
  }
  member.was_up = true;
  member.hopeless = false;
  ConnectQueues(path);
  UpdateFailing();
  Reconcile();
  Answer(member, BdevNames());
}

void RemoteSubsystem::OnPathDown(Path& path) {
  TellQueues([id = path.id()](SubsystemQueues& queues) { queues.PathDown(id); });
}

void RemoteSubsystem::OnNamespacesChanged(Path& /*path*/) { Reconcile(); }

void RemoteSubsystem::OnPathHopeless(Path& path) {
  Find(path.id())->hopeless = true;
  UpdateFailing();
}

void RemoteSubsystem::OnPathLost(Path& path) { DropLater(path.id()); }

// Another path has to lead to the same subsystem, through another controller of it (NVMe Base 2.0
// §3.1.1).
bool RemoteSubsystem::BelongsHere(const Path& path) const {
  const initiator::ControllerInfo& info = path.info();
  return std::all_of(members_.begin(), members_.end(), [&](const Member& member) {
    if (member.path.get() == &path || !member.was_up) return true;
    const initiator::ControllerInfo& other = member.path->info();
    return info.subnqn == other.subnqn && info.serial_number == other.serial_number &&
           info.model_number == other.model_number && info.controller_id != other.controller_id;
  });
}

void RemoteSubsystem::Answer(Member& member, base::ErrnoOr<std::vector<std::string>> names) {
  if (!member.on_attached) return;
  std::exchange(member.on_attached, nullptr)(std::move(names));
}

// In a message of its own: the path is at work.
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
  TellQueues([path_id](SubsystemQueues& queues) { queues.PathDown(path_id); });
  auto member = std::make_shared<Member>(std::move(*Find(path_id)));
  std::erase_if(members_, [](const Member& left) { return left.path == nullptr; });
  UpdateFailing();
  Reconcile();
  member->path->Shutdown([member, done] { done(); });
}

// The queues have the ids 1 to n, in the order of the reactors; a controller that allows less
// leaves some reactors without.
void RemoteSubsystem::ConnectQueues(const Path& path) {
  const initiator::ControllerInfo& info = path.info();
  const ModuleOptions& options = environment_.options;
  bool resets = options.action_on_timeout == ModuleOptions::TimeoutAction::kReset;
  QueuePath queue_path{
      .path_id = path.id(),
      .epoch = path.epoch(),
      .options = path.controller().IoQueueOptions(
          1, static_cast<uint16_t>(std::min<uint32_t>(options.io_queue_requests + 1, UINT16_MAX))),
      .timeouts = {.connect = path.options().controller.connect_timeout,
                   .command = std::chrono::milliseconds(resets ? options.timeout_us / 1000 : 0)},
      .limits = {.transfer_bytes = info.max_transfer_bytes,
                 .write_zeroes_bytes = info.max_write_zeroes_bytes,
                 .unmap_blocks = info.max_unmap_range_blocks}};
  for (size_t i = 0; i < queues_.size(); ++i) {
    if (i >= path.controller().io_queue_count()) {
      spdlog::warn("nvme: {}: the controller at {} allows {} I/O queues, {} reactors go without",
                   name_, path.association().address.ToString(), i, queues_.size() - i);
      break;
    }
    queue_path.options.queue_id = static_cast<uint16_t>(i + 1);
    queues_[i]->reactor().Post([queues = queues_[i], queue_path] { queues->PathUp(queue_path); });
  }
}

// I/O waits as long as one path is there or may come back in time.
void RemoteSubsystem::UpdateFailing() {
  bool failing = removing_ || std::all_of(members_.begin(), members_.end(),
                                          [](const Member& member) { return member.hopeless; });
  TellQueues([failing](SubsystemQueues& queues) { queues.SetFailing(failing); });
}

void RemoteSubsystem::Remove(std::function<void()> done) {
  on_removed_.push_back(std::move(done));
  if (removing_) return;
  removing_ = true;
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
  auto left = std::make_shared<size_t>(members_.size());
  for (Member& member : members_) {
    uint64_t path_id = member.path->id();
    TellQueues([path_id](SubsystemQueues& queues) { queues.PathDown(path_id); });
    member.path->Shutdown([self = shared_from_this(), left] {
      if (--*left > 0) return;
      // The path that calls is still in use.
      self->control_.Post([self] {
        for (auto& removed : std::exchange(self->on_removed_, {})) removed();
      });
    });
  }
}

}  // namespace sma::target::bdev_nvme
