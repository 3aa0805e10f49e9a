// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/errno_or.h"
#include "storage_target/bdev/registry.h"
#include "storage_target/bdev/value.h"
#include "storage_target/bdev_modules/nvme/path.h"
#include "storage_target/bdev_modules/nvme/subsystem_queues.h"

namespace sma::storage_target::bdev_nvme {

/// The objects that all remote subsystems share.
struct Environment {
  bdev::Registry& registry;
  std::vector<Reactor*> reactors;  // in which channels may be opened, including the control reactor
  ModuleOptions options;           // the current ones
};

/// A remote subsystem with one or more paths to it and a bdev for each of its namespaces. Its name
/// ("controller" in SPDK's JSON-RPC) is the prefix of its bdevs' names. Used only on the control
/// reactor.
class RemoteSubsystem : public std::enable_shared_from_this<RemoteSubsystem>, private Path::Owner {
 public:
  /// Called when a path was permanently lost or was refused. `whole` is true if it was the last
  /// path, so that the subsystem is removed.
  using OnGone = std::function<void(RemoteSubsystem& subsystem, bool whole)>;

  static std::shared_ptr<RemoteSubsystem> Make(Environment& environment, const std::string& name,
                                               OnGone on_gone);
  ~RemoteSubsystem() override;

  /// Receives the names of all bdevs of the subsystem when the path is up, or EIO if the connection
  /// fails or leads to another subsystem.
  using AttachDone = std::function<void(base::ErrnoOr<std::vector<std::string>> names)>;
  void AddPath(Path::Options options, AttachDone done);
  /// Adds an address for failover to the first path.
  void AddAlternative(const initiator::Address& address);

  /// Ends the I/O, removes the bdevs and shuts down the controllers; then calls `done`. OnGone is
  /// not called.
  void Remove(std::function<void()> done);
  /// Stops using the address. Returns ENODEV without calling `done` if it is not an address of this
  /// subsystem. If it is the only one, the caller must use Remove instead.
  int RemoveAddress(const initiator::Address& address, std::function<void()> done);
  bool IsOnlyAddress(const initiator::Address& address) const;

  /// Reconnects every path; `done` is called with 0, with EIO if a path could not be connected at
  /// the first attempt, or, before this returns, with ENXIO if the subsystem is being removed.
  void Reset(std::function<void(int error)> done);
  void SetPolicy(MultipathPolicy policy);

  const std::string& name() const { return name_; }
  const std::string& subnqn() const { return members_.front().path->association().subnqn; }
  const std::string& hostnqn() const { return members_.front().path->association().hostnqn; }
  MultipathPolicy policy() const { return policy_; }
  bool HasAddress(const initiator::Address& address) const;
  bool removing() const { return removing_; }
  /// Returns the paths in the order of preference. Never empty while the subsystem is in use.
  std::vector<const Path*> paths() const;
  std::vector<std::string> BdevNames() const;

 private:
  struct Member {
    std::unique_ptr<Path> path;
    AttachDone on_attached;  // set until the path is up or refused
    bool was_up = false;     // true if its namespaces are known
    bool fails_io = false;   // true if I/O does not wait for this path
    /// The namespaces that the path reported last, without those that a connected path has since
    /// reported as removed.
    std::vector<initiator::NamespaceInfo> reported;
    std::optional<PathDisks> sent;  // last sent to the queues
    bool paused = false;            // since OnNamespacesChanging
  };
  /// The properties that identify a disk.
  struct Identity {
    base::Uuid uuid;  // of the bdev
    std::array<uint8_t, 16> nguid;
    std::array<uint8_t, 8> eui64;
    uint32_t block_size;

    friend bool operator==(const Identity&, const Identity&) = default;
  };
  struct Namespace {
    initiator::NamespaceInfo info;
    Identity identity;
    DiskKey key;
    bdev::Bdev* bdev = nullptr;  // nullptr while it is being removed
    bool failing = false;        // the value last sent to the queues
  };
  /// A namespace as reported by the connected paths.
  struct Wanted {
    initiator::NamespaceInfo info;
    Identity identity;
  };

  RemoteSubsystem(Environment& environment, std::string name, OnGone on_gone);
  void MakeQueues();

  // Implementation of Path::Owner.
  void OnPathRefused(Path& path, const std::string& reason) override;
  void OnPathUp(Path& path) override;
  void OnPathDown(Path& path) override;
  void OnNamespacesChanging(Path& path, std::function<void()> proceed) override;
  void OnNamespacesChanged(Path& path) override;
  void OnAnaChanged(Path& path) override;
  void OnPathFailing(Path& path) override;
  void OnPathLost(Path& path) override;

  Member* Find(uint64_t path_id);
  bool BelongsHere(const Path& path) const;
  void Answer(Member& member, base::ErrnoOr<std::vector<std::string>> names);
  void DropLater(uint64_t path_id);
  void Drop(uint64_t path_id, const std::function<void()>& done);
  std::shared_ptr<void> ClosePathQueues(const Path& path);
  void NotifyQueues(std::function<void(SubsystemQueues& queues)> what);
  SubsystemQueues::Events QueueEvents(size_t index);
  void AbortCommand(size_t index, uint64_t path_id, uint64_t epoch, uint16_t queue_id,
                    uint16_t cid);
  void ConnectQueues(Member& member);
  void UpdateFailing();

  // Functions for disks, implemented in remote_disks.cc.
  static Identity IdentityOf(const initiator::NamespaceInfo& info,
                             const initiator::ControllerInfo& controller);
  static const initiator::NamespaceInfo* FindReported(const Member& member, uint32_t nsid);
  bool Shows(const Member& member, const Namespace& ns) const;
  void UpdateReports(Member& member);
  PathDisks DisksOf(const Member& member) const;
  void SendDisks();
  bool IsFailing(const Namespace& ns) const;
  DiskKey TakeKey();

  // Functions for bdevs, implemented in remote_namespaces.cc.
  void Reconcile();
  std::map<uint32_t, Wanted> WantedNamespaces() const;
  bool IsKeptByPathDown(const Namespace& ns) const;
  bool IsWriteProtected(uint32_t nsid) const;
  initiator::ControllerInfo CapabilitiesFor(const Wanted& wanted) const;
  void RegisterBdev(const Wanted& wanted);
  void UpdateBdev(Namespace& ns, const initiator::NamespaceInfo& info);
  void UnregisterBdev(uint32_t nsid);
  void ShutDownWhenEmpty();
  bdev::Object DriverSpecific(uint32_t nsid) const;

  Environment& environment_;
  Reactor& control_;
  const std::string name_;
  const OnGone on_gone_;
  MultipathPolicy policy_;
  std::vector<std::shared_ptr<SubsystemQueues>> queues_;  // indexed like environment_.reactors
  std::vector<Member> members_;
  std::map<uint32_t, Namespace> namespaces_;  // by NSID
  std::vector<bool> slots_;                   // slots of DiskKey in use
  uint32_t last_serial_ = 0;
  bool removing_ = false;
  Reactor::TimerId removal_timer_ = 0;
  std::vector<std::function<void()>> on_removed_;
};

}  // namespace sma::storage_target::bdev_nvme
