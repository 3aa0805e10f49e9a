// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "jsonrpc/protocol.h"
#include "worlds/storage.h"

namespace sma::worlds {

/// The creator of an object, or the origin of a call. kOthers is an operator or another agent.
enum class Owner { kAgent, kOthers };

struct SimBdev {
  std::string name;
  std::string uuid;
  std::string product_name;
  Owner owner = Owner::kOthers;
  Contents contents;
  std::string claimed_by{};  // empty: not claimed
  std::map<std::string, uint64_t> limits{};
  Owner limits_owner = Owner::kOthers;  // who set them last
  std::string base{};                   // set for a crypto bdev
  std::string key_name{};               // set for a crypto bdev
  std::string controller{};             // set for an NVMe bdev
  uint32_t remote_nsid = 0;             // set for an NVMe bdev
  int age = 0;                          // number of times it was described
  uint64_t born = 0;                    // the round trip in which it appeared
};

struct SimNamespace {
  std::string bdev;
  std::string uuid;
  std::string nguid;
  jsonrpc::Json attributes = jsonrpc::Json::object();  // other attributes, as given
  Owner owner = Owner::kOthers;
  /// True if the agent cannot know whether it added this namespace itself (MarkIndistinct).
  bool is_indistinct = false;
};

struct SimSubsystem {
  Owner owner = Owner::kOthers;
  bool is_discovery = false;
  bool allow_any_host = false;
  /// True if the call in progress requests this object and may adopt it.
  bool is_adoptable = false;
  jsonrpc::Json attributes = jsonrpc::Json::object();  // serial number and other attributes
  uint32_t max_namespaces = 32;
  std::map<std::string, Owner> hosts;
  std::vector<std::pair<jsonrpc::Json, Owner>> listeners;  // the newest one first
  std::map<uint32_t, SimNamespace> namespaces;
};

struct SimPath {
  NodeAddress address;
  std::string hostnqn;
  bool is_connected = false;
};

/// A remote subsystem to which the target is connected (a bdev_nvme controller).
struct SimController {
  std::string subnqn;
  std::string service;  // the discovery service that attached it; empty: attached by a call
  Owner owner = Owner::kOthers;
  std::vector<SimPath> paths;
  std::map<uint32_t, RemoteNamespace> seen{};  // as they were when it last read them
};

struct SimService {
  NodeAddress address;
  std::string hostnqn;
  Owner owner = Owner::kOthers;
  int lag = 0;  // round trips until it has read the discovery log
  std::vector<NodeAddress> referrals;
  int next_index = 0;
  bool is_connected = false;
  std::set<std::string> seen{};  // the NQNs in the log that it last read
};

struct SimCryptoName {
  std::string name;
  std::string base_name;  // as given
  std::string key_name;
  bool owns_key = false;
  Owner owner = Owner::kOthers;
};

struct SimKey {
  jsonrpc::Json params;
  Owner owner = Owner::kOthers;
};

struct SimVhost {
  std::string bdev;  // empty: it no longer exists
  Owner owner = Owner::kOthers;
};

/// Differences between simulated targets, which also exist between real ones.
struct SimOptions {
  /// Number of round trips after which a discovery service has read the log.
  int discovery_lag = 0;
  /// The number of initial descriptions of an NVMe bdev that lack its paths.
  int incomplete_descriptions = 0;
  /// The list of all bdevs is assumed to be larger than 32 MiB: requests for it are never answered.
  bool has_too_many_bdevs = false;
  /// Transports missing in this build: "VFIOUSER".
  std::set<std::string> refused_transports{};
};

/// The state and the methods of an SPDK application, as in the recorded answers of SPDK v26.09
/// (tests/conformance/spdk-rpc), with the contents of every bdev and the owner of every object.
/// Every access of the agent to another owner's object, and every exported disk whose contents are
/// not the volume's, is recorded as a violation. Not thread-safe.
class SimSpdk {
 public:
  using Json = jsonrpc::Json;
  using Answer = absl::StatusOr<Json>;

  /// `storage` must outlive this object.
  SimSpdk(Storage& storage, SimOptions options);

  Answer Call(Owner caller, const std::string& method, const Json& params);

  /// Called for each round trip: discovery services read their logs.
  void Advance();
  /// Makes all discovery services read their logs now.
  void FinishDiscovery();
  /// Called when addresses or subsystems in the storage have changed.
  void FollowStorage();
  /// Removes all objects of the agent, including those that other owners have added to them. The
  /// target's configuration recreates the other owners' own objects.
  void Restart();

  /// Adds a local disk. The name of its medium is its UUID unless `medium` is given.
  void AddLocalBdev(const std::string& uuid, const std::string& medium = "");

  /// The contents of each volume, which rule 1 checks. Unlisted volumes are not checked.
  std::map<std::string, Contents> truth;
  /// UUIDs of the volumes that hosts use, by the NQN of their device: a host that sees the device
  /// without one of them treats it as removed.
  std::map<std::string, std::set<std::string>> attached;
  /// The volume of each vhost controller that the agent was requested to create, and those of
  /// earlier calls that may still be running.
  std::map<std::string, std::set<std::string>> vhost_volumes;
  /// Returns the number of front ends connected to a vhost controller.
  std::function<int(const std::string& controller)> vhost_sessions;
  /// The violations since the list was last cleared.
  std::vector<std::string> violations;
  SimOptions options;

  // The state, for checks.
  std::map<std::string, SimBdev> bdevs;
  std::map<std::string, SimSubsystem> subsystems;
  std::map<std::string, SimVhost> vhosts;
  std::map<std::string, SimController> controllers;
  std::map<std::string, SimService> services;
  std::vector<SimCryptoName> crypto_names;  // in the order of creation
  std::map<std::string, SimKey> keys;

  SimBdev* FindBdev(const std::string& name_or_uuid);
  bool IsHanging(const NodeAddress& address) const;
  /// Returns true if the bdev, or one below it, belongs to a remote without a connected path.
  bool IsDead(const std::string& bdev) const;
  /// Returns the names of the bdevs that a subsystem or vhost controller exports under this UUID;
  /// there should be one.
  std::vector<std::string> Exported(const std::string& device, const std::string& uuid) const;
  /// Records exports with wrong contents.
  void CheckExports();
  /// Returns objects of the agent in other owners' subsystems, which are allowed only during a
  /// call.
  std::vector<std::string> Intrusions() const;
  /// Transfers the subsystem or vhost controller to the agent, together with its export of volume
  /// `uuid`, or with all its exports if `uuid` is empty.
  void Transfer(const std::string& name, const std::string& uuid);
  /// To be called for a request of the agent that adds a namespace and may still be executed, or
  /// whose answer was lost with those to the queries sent before it. A namespace that exports the
  /// same bdev under the same UUID is then the same to the agent whoever added it, and a rollback
  /// of the request may remove it.
  void MarkIndistinct(const Json& params);

 private:
  using Handler = Answer (SimSpdk::*)(const Json&);
  static const std::map<std::string, Handler>& Handlers();

  Answer GetVersion(const Json& params);

  // Defined in sim_bdev.cc.
  Answer CreateDisk(const Json& params);
  Answer DeleteDisk(const Json& params);
  Answer GetBdevs(const Json& params);
  Answer SetQosLimit(const Json& params);
  Answer GetNotifications(const Json& params);
  Answer CreateIscsi(const Json& params);
  Answer DeleteIscsi(const Json& params);
  bool AddBdev(SimBdev bdev);
  void RemoveBdev(const std::string& name);
  Json Describe(SimBdev& bdev);
  void AddEvent(const char* type, const std::string& bdev);

  // Defined in sim_crypto.cc.
  Answer CreateKey(const Json& params);
  Answer GetKeys(const Json& params);
  Answer DestroyKey(const Json& params);
  Answer CreateCrypto(const Json& params);
  Answer DeleteCrypto(const Json& params);
  absl::Status MakeCryptoBdevs(const std::string& base);

  // Defined in sim_nvmf.cc.
  Answer CreateTransport(const Json& params);
  Answer GetTransports(const Json& params);
  Answer GetSubsystems(const Json& params);
  Answer CreateSubsystem(const Json& params);
  Answer DeleteSubsystem(const Json& params);
  Answer AddHost(const Json& params);
  Answer RemoveHost(const Json& params);
  Answer AllowAnyHost(const Json& params);
  Answer AddListener(const Json& params);
  Answer RemoveListener(const Json& params);
  Answer GetListeners(const Json& params);
  Answer AddNamespace(const Json& params);
  Answer RemoveNamespace(const Json& params);
  Answer GetConnected(const Json& params);
  SimSubsystem* FindSubsystem(const Json& params);
  void JudgeTouch(const std::string& what, Owner owner, bool is_adoptable = false);

  // Defined in sim_remote.cc.
  Answer StartDiscovery(const Json& params);
  Answer StopDiscovery(const Json& params);
  Answer GetDiscoveryInfo(const Json& params);
  Answer AttachController(const Json& params);
  Answer DetachController(const Json& params);
  Answer GetControllers(const Json& params);
  const StorageNode* SourceOf(const SimService& service) const;
  void ReadLog(const std::string& name);
  bool Connect(const std::string& controller, const NodeAddress& address,
               const std::string& hostnqn);
  void Populate(const std::string& controller);
  void RemoveController(const std::string& name);

  // Defined in sim_vhost.cc.
  Answer CreateVhost(const Json& params);
  Answer GetVhosts(const Json& params);
  Answer DeleteVhost(const Json& params);

  Storage& storage_;
  Owner caller_ = Owner::kOthers;
  std::set<std::string> transports_;
  std::deque<Json> events_;
  uint64_t next_event_ = 0;
  uint64_t next_iscsi_uuid_ = 1;
  uint64_t round_trips_ = 0;
};

absl::Status SimError(int code, const std::string& message);
absl::Status SimInvalidParameters();
absl::Status SimNoSuchDevice();

}  // namespace sma::worlds
