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
#include "target/bdev/registry.h"
#include "target/bdev/value.h"
#include "target/bdev_modules/nvme/path.h"
#include "target/bdev_modules/nvme/subsystem_queues.h"

namespace sma::target::bdev_nvme {

/// What all remote subsystems share.
struct Environment {
  bdev::Registry& registry;
  std::vector<Reactor*>
      reactors;           // where channels may be opened; the control reactor is one of them
  ModuleOptions options;  // as they are now
};

/// A remote subsystem under the name that its bdevs begin with ("controller" in SPDK's JSON-RPC):
/// one or more paths to it, and a bdev for each of its namespaces. In the control reactor.
class RemoteSubsystem : public std::enable_shared_from_this<RemoteSubsystem>, private Path::Owner {
 public:
  /// Told when a path was lost for good, or refused. `whole`: it was the last, and nothing is left.
  using OnGone = std::function<void(RemoteSubsystem& subsystem, bool whole)>;

  static std::shared_ptr<RemoteSubsystem> Make(Environment& environment, const std::string& name,
                                               OnGone on_gone);
  ~RemoteSubsystem() override;

  /// The names of all bdevs of the subsystem, when the path is up; EIO when it cannot be connected,
  /// or leads elsewhere.
  using AttachDone = std::function<void(base::ErrnoOr<std::vector<std::string>> names)>;
  void AddPath(Path::Options options, AttachDone done);
  /// Another address for the first path to change to (failover).
  void AddAlternative(const initiator::Address& address);

  /// Ends the I/O, removes the bdevs, says good-bye to the controllers; then `done`. OnGone is not
  /// called.
  void Remove(std::function<void()> done);
  /// Uses the address no more. ENODEV when it is none of this subsystem's; `done` is not called
  /// then. When it is the only one the caller is to Remove instead.
  int RemoveAddress(const initiator::Address& address, std::function<void()> done);
  bool IsOnlyAddress(const initiator::Address& address) const;

  /// Connects every path again; `done` gets 0, or EIO when one could not be connected at once, or
  /// ENXIO, before the return, when the subsystem is being removed.
  void Reset(std::function<void(int error)> done);
  void SetPolicy(MultipathPolicy policy);

  const std::string& name() const { return name_; }
  const std::string& subnqn() const { return members_.front().path->association().subnqn; }
  const std::string& hostnqn() const { return members_.front().path->association().hostnqn; }
  MultipathPolicy policy() const { return policy_; }
  bool HasAddress(const initiator::Address& address) const;
  bool removing() const { return removing_; }
  /// In the order of preference. Never empty while the subsystem is in use.
  std::vector<const Path*> paths() const;
  std::vector<std::string> BdevNames() const;

 private:
  struct Member {
    std::unique_ptr<Path> path;
    AttachDone on_attached;  // until it was up, or refused
    bool was_up = false;     // so that its namespaces are known
    bool hopeless = false;   // I/O does not wait for it
    /// The namespaces that it reported last, without those that a path that is up says are gone.
    std::vector<initiator::NamespaceInfo> reported;
    std::optional<PathDisks> sent;  // what the queues have
    bool paused = false;            // by OnNamespacesSuspect
  };
  /// What tells one disk from another.
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
    bdev::Bdev* bdev = nullptr;  // nullptr: being removed
    bool failing = false;        // as the queues know
  };
  /// A namespace as the paths that are up report it.
  struct Wanted {
    initiator::NamespaceInfo info;
    Identity identity;
  };

  RemoteSubsystem(Environment& environment, std::string name, OnGone on_gone);
  void MakeQueues();

  // Path::Owner.
  void OnPathRefused(Path& path, const std::string& reason) override;
  void OnPathUp(Path& path) override;
  void OnPathDown(Path& path) override;
  void OnNamespacesSuspect(Path& path, std::function<void()> proceed) override;
  void OnNamespacesChanged(Path& path) override;
  void OnAnaChanged(Path& path) override;
  void OnPathHopeless(Path& path) override;
  void OnPathLost(Path& path) override;

  Member* Find(uint64_t path_id);
  bool BelongsHere(const Path& path) const;
  void Answer(Member& member, base::ErrnoOr<std::vector<std::string>> names);
  void DropLater(uint64_t path_id);
  void Drop(uint64_t path_id, const std::function<void()>& done);
  void TellQueues(std::function<void(SubsystemQueues& queues)> what);
  SubsystemQueues::Events QueueEvents(size_t index);
  void AbortCommand(size_t index, uint64_t path_id, uint64_t epoch, uint16_t queue_id,
                    uint16_t cid);
  void ConnectQueues(Member& member);
  void UpdateFailing();

  // Which disk is where.
  static Identity IdentityOf(const initiator::NamespaceInfo& info,
                             const initiator::ControllerInfo& controller);
  static const initiator::NamespaceInfo* FindReported(const Member& member, uint32_t nsid);
  bool Shows(const Member& member, const Namespace& ns) const;
  void TakeReport(Member& member);
  PathDisks DisksOf(const Member& member) const;
  void SendDisks();
  bool IsFailing(const Namespace& ns) const;
  DiskKey TakeKey();

  // Bdevs.
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
  std::vector<std::shared_ptr<SubsystemQueues>> queues_;  // as environment_.reactors
  std::vector<Member> members_;
  std::map<uint32_t, Namespace> namespaces_;  // by NSID
  std::vector<bool> slots_;                   // of DiskKey, those in use
  uint32_t last_serial_ = 0;
  bool removing_ = false;
  Reactor::TimerId removal_timer_ = 0;
  std::vector<std::function<void()>> on_removed_;
};

}  // namespace sma::target::bdev_nvme
