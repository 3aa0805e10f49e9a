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

/// Who made an object or makes a call. kOthers: an operator, or another agent.
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
  std::string base{};                   // of a crypto bdev
  std::string key_name{};               // of a crypto bdev
  std::string controller{};             // of an NVMe bdev
  uint32_t remote_nsid = 0;             // of an NVMe bdev
  int age = 0;                          // how often it was described
  uint64_t born = 0;                    // in which round trip it appeared
};

struct SimNamespace {
  std::string bdev;
  std::string uuid;
  std::string nguid;
  jsonrpc::Json attributes = jsonrpc::Json::object();  // others, as they were given
  Owner owner = Owner::kOthers;
};

struct SimSubsystem {
  Owner owner = Owner::kOthers;
  bool is_discovery = false;
  bool allow_any_host = false;
  /// The call under way may take it over: it is what that call asks for.
  bool is_adoptable = false;
  jsonrpc::Json attributes = jsonrpc::Json::object();  // serial number and others
  uint32_t max_namespaces = 32;
  std::map<std::string, Owner> hosts;
  std::vector<std::pair<jsonrpc::Json, Owner>> listeners;  // the newest first
  std::map<uint32_t, SimNamespace> namespaces;
};

struct SimPath {
  NodeAddress address;
  std::string hostnqn;
  bool is_connected = false;
};

/// A remote subsystem that the target is connected to (a bdev_nvme controller).
struct SimController {
  std::string subnqn;
  std::string service;  // the discovery service that attached it; empty: attached by a call
  Owner owner = Owner::kOthers;
  std::vector<SimPath> paths;
  std::map<uint32_t, RemoteNamespace> seen{};  // as they were when it last looked
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
  std::string base_name;  // as it was given
  std::string key_name;
  bool owns_key = false;
  Owner owner = Owner::kOthers;
};

struct SimKey {
  jsonrpc::Json params;
  Owner owner = Owner::kOthers;
};

struct SimVhost {
  std::string bdev;  // empty: it is gone
  Owner owner = Owner::kOthers;
};

/// How a simulated target differs from others; real ones differ so.
struct SimOptions {
  /// How many round trips a discovery service takes to read the log.
  int discovery_lag = 0;
  /// The first descriptions of an NVMe bdev lack its paths.
  int incomplete_descriptions = 0;
  /// A listing of all bdevs would be larger than 32 MiB: it is never answered.
  bool has_too_many_bdevs = false;
  /// Builds without a transport: "VFIOUSER".
  std::set<std::string> refused_transports{};
};

/// The state and the methods of an SPDK application, as the recorded answers of SPDK v26.09 show
/// them (tests/conformance/spdk-rpc), with the contents of every bdev and the owner of every
/// object. Each touch of another owner's object by the agent, and each disk that the agent exports
/// with contents that are not the volume's, is noted as a violation. Not thread-safe.
class SimSpdk {
 public:
  using Json = jsonrpc::Json;
  using Answer = absl::StatusOr<Json>;

  /// Refers to `storage`, which outlives it.
  SimSpdk(Storage& storage, SimOptions options);

  Answer Call(Owner caller, const std::string& method, const Json& params);

  /// A round trip passes: discovery services read their logs.
  void Advance();
  /// All of them read it now.
  void FinishDiscovery();
  /// Addresses or subsystems in the storage have changed.
  void FollowStorage();
  /// Loses all objects of the agent, and what others had in them; others' own objects are made
  /// again by the configuration of the target.
  void Restart();

  /// A local disk. Its medium is called as its UUID unless `medium` is given.
  void AddLocalBdev(const std::string& uuid, const std::string& medium = "");

  /// What a volume holds: rule 1 is judged by it. Volumes that are not named are not judged.
  std::map<std::string, Contents> truth;
  /// UUIDs of the volumes that hosts have, by the NQN of their device: hosts that see the device
  /// without one of them drop it.
  std::map<std::string, std::set<std::string>> attached;
  /// The volume of each vhost controller that the agent is asked for, with those of earlier calls
  /// that may not be over.
  std::map<std::string, std::set<std::string>> vhost_volumes;
  /// Tells how many front ends are connected to a vhost controller.
  std::function<int(const std::string& controller)> vhost_sessions;
  /// What was found wrong since it was last cleared.
  std::vector<std::string> violations;
  SimOptions options;

  // State, for judges.
  std::map<std::string, SimBdev> bdevs;
  std::map<std::string, SimSubsystem> subsystems;
  std::map<std::string, SimVhost> vhosts;
  std::map<std::string, SimController> controllers;
  std::map<std::string, SimService> services;
  std::vector<SimCryptoName> crypto_names;  // in the order of creation
  std::map<std::string, SimKey> keys;

  SimBdev* FindBdev(const std::string& name_or_uuid);
  bool IsHanging(const NodeAddress& address) const;
  /// Whether the bdev, or one below it, is of a remote to which no path is up.
  bool IsDead(const std::string& bdev) const;
  /// Names of the bdevs that a subsystem exports under this UUID, or that a vhost controller does;
  /// there should be one.
  std::vector<std::string> Exported(const std::string& device, const std::string& uuid) const;
  /// Notes what is exported with wrong contents.
  void JudgeExports();
  /// Objects of the agent in other owners' subsystems: allowed only during a call.
  std::vector<std::string> Intrusions() const;
  /// From now on the subsystem, or vhost controller, is the agent's, and what it exports as this
  /// volume; empty: all.
  void Transfer(const std::string& name, const std::string& uuid);

 private:
  using Handler = Answer (SimSpdk::*)(const Json&);
  static const std::map<std::string, Handler>& Handlers();

  Answer GetVersion(const Json& params);

  // sim_bdev.cc
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

  // sim_crypto.cc
  Answer CreateKey(const Json& params);
  Answer GetKeys(const Json& params);
  Answer DestroyKey(const Json& params);
  Answer CreateCrypto(const Json& params);
  Answer DeleteCrypto(const Json& params);
  absl::Status MakeCryptoBdevs(const std::string& base);

  // sim_nvmf.cc
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

  // sim_remote.cc
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

  // sim_vhost.cc
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
