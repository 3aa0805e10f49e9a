#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
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

  /// Connects every path again; `done` gets 0, or EIO when one could not be connected at once.
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
  };
  struct Namespace {
    initiator::NamespaceInfo info;
    bdev::Bdev* bdev = nullptr;  // nullptr: being removed
  };

  RemoteSubsystem(Environment& environment, std::string name, OnGone on_gone);
  void MakeQueues();

  // Path::Owner.
  void OnPathRefused(Path& path, const std::string& reason) override;
  void OnPathUp(Path& path) override;
  void OnPathDown(Path& path) override;
  void OnNamespacesChanged(Path& path) override;
  void OnPathHopeless(Path& path) override;
  void OnPathLost(Path& path) override;

  Member* Find(uint64_t path_id);
  bool BelongsHere(const Path& path) const;
  void Answer(Member& member, base::ErrnoOr<std::vector<std::string>> names);
  void DropLater(uint64_t path_id);
  void Drop(uint64_t path_id, const std::function<void()>& done);
  void TellQueues(std::function<void(SubsystemQueues& queues)> what);
  void ConnectQueues(const Path& path);
  void UpdateFailing();

  // Bdevs.
  void Reconcile();
  void RegisterBdev(const initiator::NamespaceInfo& info);
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
  bool removing_ = false;
  std::vector<std::function<void()>> on_removed_;
};

}  // namespace sma::target::bdev_nvme
