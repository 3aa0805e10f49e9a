// SPDX-License-Identifier: Apache-2.0

// Handles the reports of the paths of a remote subsystem, and notifies the I/O reactors.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "storage_target/bdev_modules/nvme/remote_subsystem.h"

namespace sma::storage_target::bdev_nvme {

using Names = base::ErrnoOr<std::vector<std::string>>;

void RemoteSubsystem::MakeQueues() {
  for (size_t i = 0; i < environment_.reactors.size(); ++i) {
    queues_.push_back(SubsystemQueues::Make(*environment_.reactors[i], QueueEvents(i)));
  }
  SetPolicy(policy_);
}

SubsystemQueues::Events RemoteSubsystem::QueueEvents(size_t index) {
  // Runs `what` on the control reactor, unless this object no longer exists by then.
  auto post = [weak = weak_from_this(),
               &control = control_](std::function<void(RemoteSubsystem&)> what) {
    control.Post([weak, what = std::move(what)] {
      if (auto self = weak.lock()) what(*self);
    });
  };
  return {.on_lost =
              [post](uint64_t path_id, uint64_t epoch, const std::string& reason) {
                post([path_id, epoch, reason](RemoteSubsystem& self) {
                  Member* member = self.Find(path_id);
                  if (member != nullptr) member->path->OnQueueLost(epoch, reason);
                });
              },
          .on_abort =
              [post, index](uint64_t path_id, uint64_t epoch, uint16_t queue_id, uint16_t cid) {
                post([=](RemoteSubsystem& self) {
                  self.AbortCommand(index, path_id, epoch, queue_id, cid);
                });
              },
          .on_ana_status =
              [post](uint64_t path_id) {
                post([path_id](RemoteSubsystem& self) {
                  Member* member = self.Find(path_id);
                  if (member != nullptr) member->path->RefreshAna();
                });
              }};
}

void RemoteSubsystem::NotifyQueues(std::function<void(SubsystemQueues& queues)> what) {
  for (const auto& queues : queues_) {
    queues->reactor().Post([queues, what] { what(*queues); });
  }
}

// The last owner of the result releases it when the path's controller has sent its last command.
// The queues are then told.
std::shared_ptr<void> RemoteSubsystem::ClosePathQueues(const Path& path) {
  const uint64_t path_id = path.id();
  const uint64_t epoch = path.epoch();
  std::shared_ptr<void> association(nullptr, [queues = queues_, path_id, epoch](void*) {
    for (const auto& one : queues) {
      one->reactor().Post([one, path_id, epoch] { one->AssociationEnded(path_id, epoch); });
    }
  });
  NotifyQueues([path_id, association](SubsystemQueues& one) { one.PathDown(path_id); });
  return association;
}

void RemoteSubsystem::AbortCommand(size_t index, uint64_t path_id, uint64_t epoch,
                                   uint16_t queue_id, uint16_t cid) {
  Member* member = Find(path_id);
  if (member == nullptr) return;
  member->path->Abort(epoch, queue_id, cid, [queues = queues_[index], path_id, epoch, cid] {
    queues->reactor().Post(
        [queues, path_id, epoch, cid] { queues->EndAbort(path_id, epoch, cid); });
  });
}

// The queues have the ids 1 to n, in the order of the reactors. If a controller allows fewer
// queues, the remaining reactors use those of the first reactors.
void RemoteSubsystem::ConnectQueues(Member& member) {
  const Path& path = *member.path;
  const initiator::ControllerInfo& info = path.info();
  const ModuleOptions& options = environment_.options;
  bool resets = options.action_on_timeout == ModuleOptions::TimeoutAction::kReset;
  member.sent = DisksOf(member);
  member.paused = false;
  QueuePath queue_path{
      .path_id = path.id(),
      .epoch = path.epoch(),
      .options = path.controller().IoQueueOptions(
          1, static_cast<uint16_t>(std::min<uint32_t>(options.io_queue_requests + 1, UINT16_MAX))),
      .timeouts = {.connect = path.options().controller.connect_timeout,
                   .command = std::chrono::milliseconds(resets ? options.timeout_us / 1000 : 0)},
      .limits = {.transfer_bytes = info.max_transfer_bytes,
                 .write_zeroes_bytes = info.max_write_zeroes_bytes,
                 .unmap_blocks = info.max_unmap_range_blocks},
      .retry_delays = info.retry_delays,
      .quiesce_time = path.controller().quiesce_time(),
      .disks = *member.sent,
      .lender = nullptr};
  const size_t count = path.controller().io_queue_count();
  if (count < queues_.size()) {
    spdlog::info("nvme: {}: the controller at {} allows {} I/O queues for {} reactors", name_,
                 path.association().address.ToString(), count, queues_.size());
  }
  for (size_t i = 0; i < queues_.size(); ++i) {
    queue_path.options.queue_id = static_cast<uint16_t>(i % count + 1);
    queue_path.lender = i < count ? nullptr : queues_[i % count];
    queues_[i]->reactor().Post([queues = queues_[i], queue_path] { queues->PathUp(queue_path); });
  }
}

// I/O waits as long as one path is connected or may reconnect in time.
void RemoteSubsystem::UpdateFailing() {
  bool failing = removing_ || std::all_of(members_.begin(), members_.end(),
                                          [](const Member& member) { return member.fails_io; });
  NotifyQueues([failing](SubsystemQueues& queues) { queues.SetFailing(failing); });
}

void RemoteSubsystem::OnPathRefused(Path& path, const std::string& /*reason*/) {
  DropLater(path.id());
  Answer(*Find(path.id()), Names::Error(EIO));
}

void RemoteSubsystem::OnPathUp(Path& path) {
  Member& member = *Find(path.id());
  if (!BelongsHere(path)) {
    const std::string reason = "the address leads to another subsystem or to the same controller";
    spdlog::warn("nvme: {}: {}: {}", name_, path.association().address.ToString(), reason);
    if (member.was_up) return path.Refuse(reason);
    DropLater(path.id());
    return Answer(member, Names::Error(EINVAL));
  }
  member.was_up = true;
  member.fails_io = false;
  UpdateReports(member);
  // The queues are notified of the disks first, so that no I/O that waits for one disk is sent to
  // another.
  Reconcile();
  ConnectQueues(member);
  UpdateFailing();
  Answer(member, BdevNames());
}

void RemoteSubsystem::OnPathDown(Path& path) {
  ClosePathQueues(path);  // the controller is already disconnected
  Find(path.id())->sent.reset();
  Reconcile();
}

void RemoteSubsystem::OnNamespacesChanging(Path& path, std::function<void()> proceed) {
  Member& member = *Find(path.id());
  member.paused = true;
  member.sent.reset();
  // Released by the last reactor whose I/O on the path has ended.
  std::shared_ptr<void> drained(nullptr, [&control = control_, proceed = std::move(proceed)](
                                             void*) { control.Post(proceed); });
  NotifyQueues(
      [id = path.id(), drained](SubsystemQueues& queues) { queues.PausePath(id, drained); });
}

void RemoteSubsystem::OnNamespacesChanged(Path& path) {
  Member& member = *Find(path.id());
  member.paused = false;
  UpdateReports(member);
  Reconcile();
}

void RemoteSubsystem::OnAnaChanged(Path& /*path*/) { SendDisks(); }

void RemoteSubsystem::OnPathFailing(Path& path) {
  Find(path.id())->fails_io = true;
  UpdateFailing();
  SendDisks();
}

void RemoteSubsystem::OnPathLost(Path& path) { DropLater(path.id()); }

// Another path must lead to the same subsystem, through another controller of it (NVMe Base 2.0
// §3.1.1).
bool RemoteSubsystem::BelongsHere(const Path& path) const {
  const initiator::ControllerInfo& info = path.info();
  return std::all_of(members_.begin(), members_.end(), [&](const Member& member) {
    if (member.path.get() == &path || !member.was_up || !member.path->is_up()) return true;
    const initiator::ControllerInfo& other = member.path->info();
    return info.subnqn == other.subnqn && info.serial_number == other.serial_number &&
           info.model_number == other.model_number && info.controller_id != other.controller_id;
  });
}

void RemoteSubsystem::Answer(Member& member, Names names) {
  if (!member.on_attached) return;
  std::exchange(member.on_attached, nullptr)(std::move(names));
}

}  // namespace sma::storage_target::bdev_nvme
