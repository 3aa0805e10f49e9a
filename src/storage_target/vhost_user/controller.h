// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/errno_or.h"
#include "base/unique_fd.h"
#include "base/uuid.h"
#include "storage_target/bdev/registry.h"
#include "storage_target/reactor/acceptor.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/vhost_user/session.h"
#include "storage_target/virtio/blk_device.h"

namespace sma::storage_target::vhost_user {

/// A virtio-blk device to which front ends connect through a Unix socket, one after another or
/// several at once, as during a migration between two front ends. The device is kept when its bdev
/// is removed; requests then fail until a bdev with the same UUID and block size appears. Owned by
/// the control reactor.
class Controller final : public SessionOwner, private bdev::DescriptorEvents {
 public:
  struct Options {
    std::string name;
    std::string bdev_name;
    std::string socket_path;
    /// True if drivers must not write. Also set if the bdev is read-only.
    bool read_only = false;
    /// True if packed virtqueues are offered to drivers.
    bool packed_ring = false;
    /// The reactors for the vrings, at least one, used in turn.
    std::vector<Reactor*> reactors;
  };

  /// Maximum number of connected front ends. Further front ends wait to be accepted, as do those
  /// that connect while the only descriptors left are those reserved for the control plane.
  static constexpr size_t kMaxSessions = 8;

  /// Opens the bdev and listens. Errors: those of Registry::Open; EADDRINUSE if a process listens
  /// at `socket_path`; EEXIST if the path exists and is not a socket; ENAMETOOLONG; otherwise the
  /// kernel's. A socket on which no process listens is replaced.
  static base::ErrnoOr<std::unique_ptr<Controller>> Create(bdev::Registry& registry,
                                                           Options options);
  /// Closes the socket and removes its file. There must be no session.
  ~Controller() override;

  const Options& options() const { return options_; }
  /// Returns true if drivers must not write, which the configuration space announces.
  bool read_only() const { return read_only_; }
  /// Returns the sessions that have not completely ended.
  const std::list<std::unique_ptr<Session>>& sessions() const { return sessions_; }
  /// Returns the bdev; nullptr while there is none.
  const bdev::Bdev* bdev() const { return descriptor_ ? &descriptor_->bdev() : nullptr; }

  /// Accepts no more front ends and ends all sessions; then calls `done`, never from within Close.
  void Close(std::function<void()> done);
  /// Uses `bdev` if it has the UUID and block size of the bdev that was removed.
  void OfferBdev(bdev::Bdev& bdev);

  // Implementation of SessionOwner.
  const std::string& name() const override { return options_.name; }
  const virtio::BlkDevice& device() const override { return *device_; }
  bdev::Descriptor* descriptor() const override { return detaching_ ? nullptr : descriptor_.get(); }
  Reactor& NextReactor() override;
  std::shared_ptr<virtio::GuestTurn> TurnIn(Reactor& reactor) override;
  const std::shared_ptr<virtio::PeerNotifier>& notifier() const override { return notifier_; }
  const std::shared_ptr<virtio::GuardShare>& guards() const override { return guards_; }
  size_t eventfd_count() const override;
  void OnBlockedWrite() override;
  void OnSessionEnded(Session& session) override;

 private:
  Controller(bdev::Registry& registry, Options options)
      : registry_(registry), options_(std::move(options)) {}

  // These functions return 0 or an errno value.
  int Open(const std::string& bdev_name);
  int Listen();
  virtio::BlkDevice DeviceOf(const bdev::Bdev& bdev) const {
    return virtio::BlkDevice(bdev, read_only_, Session::kMaxQueues, options_.packed_ring);
  }
  void NotifyConfigChange();
  void UpdateListening();
  void BeginPenalty();

  bool MayAccept() const;
  void OnAccept(base::UniqueFd socket);
  void OnBdevRemove() override;
  void OnBdevResize() override;
  void OnDetached();

  bdev::Registry& registry_;
  const Options options_;
  bool read_only_ = false;  // requested, or because of the bdev
  base::Uuid bdev_uuid_;
  std::optional<virtio::BlkDevice> device_;
  std::unique_ptr<bdev::Descriptor> descriptor_;
  std::unique_ptr<Acceptor> acceptor_;  // set once the controller has listened
  bool detaching_ = false;
  size_t next_reactor_ = 0;
  std::unordered_map<Reactor*, std::shared_ptr<virtio::GuestTurn>> turns_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::list<std::unique_ptr<Session>> sessions_;
  const std::shared_ptr<virtio::PeerNotifier> notifier_ = std::make_shared<virtio::PeerNotifier>();
  const std::shared_ptr<virtio::GuardShare> guards_ = std::make_shared<virtio::GuardShare>();
  Reactor::TimerId penalty_timer_ = 0;  // set while no front end is accepted for a blocked write
  bool closing_ = false;
  std::function<void()> on_closed_;  // set only while there are sessions
};

}  // namespace sma::storage_target::vhost_user
