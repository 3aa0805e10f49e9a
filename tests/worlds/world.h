// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/qmp/testing/fake_qemu.h"
#include "worlds/agent_host.h"
#include "worlds/sim_target.h"
#include "worlds/topology.h"

namespace sma::worlds {

struct WorldOptions {
  bool has_machine = false;
  SimOptions sim{};
  /// True if limits that remain on bdevs of detached volumes are a problem.
  bool checks_limits = true;
  /// True if a device must not be shown to hosts without one of its volumes. An agent shows
  /// incomplete devices after its hold time.
  bool checks_exposure = false;
  /// If false, the agent is configured with `drift: report`.
  bool repairs_drift = true;
  /// The time for which Finish waits for the agent.
  std::chrono::milliseconds patience{1500};
};

/// An agent, its target, storage nodes, a VM and an operator, driven by steps in a
/// small language and checked after every step by two rules:
///   1. a host that may read a volume reads that volume's bytes, or gets an error;
///   2. objects that the agent did not create are unchanged.
/// Finish() checks that nothing is lost and nothing leaked. One step per line (DEV and VOL are
/// numbers of topology.h):
///
///   create DEV [VOL [HOW]] · delete DEV · attach VOL DEV [HOW] · detach VOL DEV
///   qos VOL DEV THOUSANDS · adopt DEV               calls; "CALL | CALL": concurrently
///   die N CALL                                      the agent dies at step N of the call
///   fault N KIND CALL                               step N fails: refuse, notsent, drop, lose,
///                                                   hang, late
///   op subsystem DEV · op copy DEV [VOL]            an operator creates a subsystem with the
///                                                   device's NQN, or one as another agent would
///   op delete DEV · op host DEV · op ns DEV NSID [VOL] · op raw DEV VOL · op rmns DEV VOL
///                                                   in the device's subsystem: a namespace of
///                                                   another disk, or of the volume's
///                                                   unencrypted bdev
///   op limit VOL N · op claim VOL · op unclaim VOL
///   op discover VOL ADDRESS · op stop VOL ADDRESS · op control VOL ADDRESS · op rmdisk VOL
///   op disk VOL · op impostor VOL                   the operator's own objects; a disk with the
///                                                   volume's UUID and other contents
///   op vhost DEV [VOL] · op rmvhost DEV             a vhost controller with the device's name
///   op clear VOL · op cipher VOL                    the volume is reformatted without its
///                                                   key, or with it
///   down VOL ADDRESS · hang VOL ADDRESS · up VOL ADDRESS    of the volume's node; 0: all
///   busy VOL                                        its hosts always have outstanding I/O
///   vanish VOL · appear VOL · swap VOL VOL          namespaces of nodes
///   restart target · restart agent · restart machine · compare · late
///   expect CODE...                                  of the last calls: "OK", or "error" for any
class World {
 public:
  explicit World(WorldOptions options = {});
  ~World();

  /// Runs the steps of `script` until one breaks a rule. Returns true if none did.
  bool Run(const std::string& script);
  /// Repairs all neighbours, removes an operator's conflicting objects, waits until the agent has
  /// finished, and checks the final state. Returns true if there is no problem.
  bool Finish();

  /// Returns the problems, one per line; empty if there are none.
  const std::vector<std::string>& problems() const { return problems_; }
  /// Returns the answers to the calls of the last step.
  const std::vector<absl::Status>& answers() const { return answers_; }
  SimTarget& target() { return *target_; }
  AgentHost& host() { return *host_; }
  Storage& storage() { return storage_; }
  qmp::FakeQemu* machine() { return machine_.get(); }
  /// Returns the number of steps (calls to the target, commands to the VM, writes of the record) of
  /// the last call.
  uint64_t last_steps() const { return last_steps_; }
  /// Waits until the agent is serving. Returns false if it is not within `time`.
  bool WaitUntilServing(std::chrono::milliseconds time);

 private:
  struct Call {
    std::string verb;
    int device = 0;
    int volume = 0;  // 0: none
    std::string how;
    uint64_t limit = 0;
  };
  enum class Known { kNo, kYes, kUnknown };
  struct DeviceState {
    Known is_there = Known::kNo;
    bool is_adopted = false;  // another agent created it
  };
  struct VolumeState {
    Known is_attached = Known::kNo;
    int device = 0;
    std::optional<uint64_t> limit = 0;  // nullopt: unknown
  };

  // Defined in world_steps.cc.
  bool Step(const std::string& line);
  void RunCalls(const std::vector<std::string>& words, bool may_die);
  absl::Status Invoke(const Call& call);
  void RecordAnswer(const Call& call, const absl::Status& status);
  void RecordUnknown(const Call& call);
  void RecordFinished(const std::vector<Call>& calls);
  static bool MayRemove(const Call& call) { return call.verb == "delete" || call.verb == "detach"; }
  bool IsAdoptable(int device);
  void PrepareAdoption(const Call& call, bool begins, bool succeeded);
  void Restart(const std::string& what);
  void Expect(const std::vector<std::string>& words);
  void WaitUntilQuiet();
  std::set<int> LiveVolumes();
  void SetAttached(bool is_strict);

  // Defined in world_neighbours.cc.
  void Op(const std::string& method, jsonrpc::Json params);
  void OperatorStep(const std::vector<std::string>& words);
  void MakeSubsystem(const std::vector<std::string>& words);
  bool ChangeSubsystem(const std::vector<std::string>& words);
  bool ChangeDisks(const std::vector<std::string>& words);
  void StorageStep(const std::vector<std::string>& words);

  // Defined in world_judge.cc.
  void CheckRules();
  bool HasVolumes(const SimSpdk& spdk, const std::string& service) const;
  std::vector<std::string> FindTwinServices(int volume);
  void CheckAnswers(const Call& call, bool is_again);
  void RepairNeighbours();
  std::vector<std::string> Unsettled();
  void FindLost(const std::map<int, admin::v1::Volume>& rows, std::vector<std::string>& found);
  void FindLeaks(const std::map<int, admin::v1::Volume>& rows, std::vector<std::string>& found);
  void FindLeakedDevices(const std::map<int, admin::v1::Volume>& rows,
                         std::vector<std::string>& found);
  void AddDisk(SimSpdk& spdk, int volume, const std::map<int, admin::v1::Volume>& rows);
  std::map<int, admin::v1::Volume> VolumeRows(std::vector<std::string>& found);

  StepFault NextStep();
  void Problem(std::string text);

  const WorldOptions options_;
  Storage storage_ = MakeStorage();
  std::string folder_;
  std::unique_ptr<qmp::FakeQemu> machine_;
  std::unique_ptr<SimTarget> target_;
  std::shared_ptr<record::MemoryDisk> disk_ = std::make_shared<record::MemoryDisk>();
  std::unique_ptr<AgentHost> host_;

  std::map<int, DeviceState> devices_;
  std::map<int, VolumeState> volumes_;
  std::set<std::string> busy_;
  std::vector<std::string> problems_;
  std::vector<absl::Status> answers_;

  base::Mutex mutex_;
  uint64_t steps_ SMA_GUARDED_BY(mutex_) = 0;
  uint64_t die_at_ SMA_GUARDED_BY(mutex_) = 0;    // 0: never
  uint64_t fault_at_ SMA_GUARDED_BY(mutex_) = 0;  // 0: never
  StepFault fault_ SMA_GUARDED_BY(mutex_) = StepFault::kNone;
  bool had_faults_ SMA_GUARDED_BY(mutex_) = false;
  bool died_ SMA_GUARDED_BY(mutex_) = false;
  uint64_t last_steps_ = 0;
};

}  // namespace sma::worlds
