#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/errno_or.h"
#include "base/unique_fd.h"
#include "base/uuid.h"
#include "target/bdev/registry.h"
#include "target/reactor/reactor.h"
#include "target/vhost_user/session.h"
#include "target/virtio/blk_device.h"

namespace sma::target::vhost_user {

/// A virtio-blk device that front ends connect to at a Unix socket: one after another, or several
/// at once, as in a migration between two front ends. It keeps its place when its bdev goes;
/// requests then end in errors until a bdev of the same UUID and block size is there again. Belongs
/// to the control reactor.
class Controller final : public SessionOwner, private bdev::DescriptorEvents, private FdHandler {
 public:
  struct Options {
    std::string name;
    std::string bdev_name;
    std::string socket_path;
    /// Drivers may not write; also if the bdev takes no writes.
    bool read_only = false;
    /// Drivers may choose packed virtqueues.
    bool packed_ring = false;
    /// The reactors for its vrings, at least one, used in turns.
    std::vector<Reactor*> reactors;
  };

  /// More front ends than these wait to be accepted.
  static constexpr size_t kMaxSessions = 8;

  /// Opens the bdev and listens. Errors of Registry::Open; EADDRINUSE: somebody listens at
  /// `socket_path`; EEXIST: it is the path of something that is no socket; ENAMETOOLONG; else what
  /// the kernel said. A socket that nobody listens on is replaced.
  static base::ErrnoOr<std::unique_ptr<Controller>> Create(bdev::Registry& registry,
                                                           Options options);
  /// Closes the socket and removes it. There is no session any more.
  ~Controller() override;

  const Options& options() const { return options_; }
  /// Whether drivers may not write, as the configuration space says.
  bool read_only() const { return read_only_; }
  /// Sessions that have not wholly ended.
  const std::list<std::unique_ptr<Session>>& sessions() const { return sessions_; }
  /// nullptr while it is gone.
  const bdev::Bdev* bdev() const { return descriptor_ ? &descriptor_->bdev() : nullptr; }

  /// Accepts no more front ends and ends all sessions; `done` (never in here) when they have ended.
  void Close(std::function<void()> done);
  /// Takes a bdev with the UUID and block size of one that is gone.
  void OfferBdev(bdev::Bdev& bdev);

  // SessionOwner
  const std::string& name() const override { return options_.name; }
  const virtio::BlkDevice& device() const override { return *device_; }
  bdev::Descriptor* descriptor() const override { return detaching_ ? nullptr : descriptor_.get(); }
  Reactor& NextReactor() override;
  void OnSessionEnded(Session& session) override;

 private:
  Controller(bdev::Registry& registry, Options options)
      : registry_(registry), options_(std::move(options)) {}

  // 0 or an errno value.
  int Open(const std::string& bdev_name);
  int Listen();
  virtio::BlkDevice DeviceOf(const bdev::Bdev& bdev) const {
    return virtio::BlkDevice(bdev, read_only_, Session::kMaxQueues, options_.packed_ring);
  }
  void NotifyConfigChange();
  void UpdateListening();

  void OnFdReady(uint32_t events) override;
  void OnBdevRemove() override;
  void OnBdevResize() override;
  void OnDetached();

  bdev::Registry& registry_;
  const Options options_;
  bool read_only_ = false;  // asked for, or the bdev is
  base::Uuid bdev_uuid_;
  std::optional<virtio::BlkDevice> device_;
  std::unique_ptr<bdev::Descriptor> descriptor_;
  base::UniqueFd listener_;
  bool listening_ = false;
  bool detaching_ = false;
  size_t next_reactor_ = 0;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::list<std::unique_ptr<Session>> sessions_;
  bool closing_ = false;
  std::function<void()> on_closed_;  // unless there were no sessions
};

}  // namespace sma::target::vhost_user
