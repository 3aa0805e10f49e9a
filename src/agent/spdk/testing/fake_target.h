// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/call_scope.h"
#include "jsonrpc/caller.h"

namespace sma::spdk {

/// A fault injected into one call to a FakeTarget.
enum class Fault {
  kNone,
  kRefuse,      // answered with an error, not executed
  kBusy,        // answered with "try again", not executed
  kNotSent,     // not executed, and the caller knows that
  kDropCall,    // not executed, but the caller does not know that
  kLoseAnswer,  // executed, then the connection is lost
  kHang,        // executed, but not answered before the caller's context ends
  kLate,        // like kHang, but executed only later (SetLate), after requests that follow it
  kLateAll,     // like kLate, also for the requests behind it in the same batch
};

/// A storage node with NVMe-oF subsystems and a discovery service, all of them at each of its
/// ports. Its discovery log lists every subsystem at every port.
struct FakeRemote {
  static constexpr char kAddress[] = "127.0.0.1";

  std::vector<std::string> ports;
  std::map<std::string, std::vector<std::string>> subsystems;  // NQN → UUIDs of its namespaces
  bool up = true;
  bool refers = true;  // the discovery log also lists the discovery services at the other ports
  bool hangs = false;  // connections are accepted but never answered
  std::vector<std::string> lists{};  // nodes whose subsystems the discovery log lists, too
};

/// An in-memory target for the agent's tests: answers the agent's requests, and an operator's
/// requests that create bdevs, like a real SPDK target (tests compare it with recorded answers).
/// Thread-safe; calls are executed one after another.
class FakeTarget : public jsonrpc::Caller {
 public:
  FakeTarget();

  std::vector<absl::StatusOr<jsonrpc::Json>> CallMany(
      const base::Context& context, std::span<const jsonrpc::Request> requests) override;
  uint64_t generation() const override;
  bool MayActLate(std::span<const std::string> objects,
                  std::chrono::nanoseconds after_loss) const override;

  /// Executes a call by an operator, which is not counted and into which no faults are injected.
  absl::StatusOr<jsonrpc::Json> Operator(std::string method,
                                         jsonrpc::Json params = jsonrpc::Json());

  /// `plan` is called before each call by the agent, with the call's number (counting from 0 at the
  /// last ResetCounts) and the request.
  using FaultPlan = std::function<Fault(uint64_t index, const jsonrpc::Request& request)>;
  void SetFaultPlan(FaultPlan plan);
  /// Executes late calls after `after_calls` further calls of the agent, in reverse order if
  /// `reversed` is set. With 0, they are not executed before DoLate().
  void SetLate(uint64_t after_calls, bool reversed);
  void DoLate();
  /// If true, hanging calls end immediately with DEADLINE_EXCEEDED, or with the status of their
  /// context if it has ended.
  void SetImpatient(bool impatient);
  /// Sets whether a call that waits for a missing bdev actually takes that time.
  void SetWaits(bool waits);
  /// Sets the duration of each CallMany, regardless of its size.
  void SetRoundTrip(std::chrono::nanoseconds time);

  /// While down, calls end with UNAVAILABLE and are not sent.
  void SetDown(bool down);
  /// Loses all state, like a restarted target.
  void Restart();
  /// `on_connect` is called after each new connection, on the thread that caused it.
  void SetOnConnect(std::function<void(uint64_t generation)> on_connect);

  void ResetCounts();
  uint64_t calls() const;
  uint64_t round_trips() const;
  std::vector<std::string> methods() const;  // called since ResetCounts, in order

  /// Adds a null bdev named "null-" followed by the UUID's text.
  void AddBdev(std::string_view uuid);

  /// Adds or replaces the storage node `name`. A connected target sees changes while the node is
  /// up, and keeps its bdevs while it is down. Nodes survive Restart().
  void SetRemote(const std::string& name, FakeRemote remote);
  /// While true, newly started discovery services have not read the log yet.
  void SetDiscoveryPending(bool pending);
  /// The next `count` descriptions of NVMe bdevs list no paths, as before the first path is up.
  void SetIncompleteDescriptions(int count);
  /// If true, hosts have outstanding I/O: a namespace whose remote is down is not removed before
  /// its bdev is.
  void SetIoUnderWay(bool under_way);
  /// Adds a logical unit that bdev_iscsi_create finds under exactly this URL.
  void AddIscsiUnit(const std::string& url);
  /// Sets whether an iSCSI portal ("127.0.0.1:3260") accepts connections but never answers.
  void SetPortalHangs(const std::string& portal, bool hangs);

  /// Returns how often a key was destroyed while a crypto bdev used it, which would make SPDK
  /// crash.
  uint64_t keys_destroyed_in_use() const;

  /// Sets the number of front ends connected to a vhost controller, or a function that returns it.
  void SetVhostSessions(std::string_view controller, int count);
  /// Sets the number of hosts connected to a subsystem.
  void SetHostCount(std::string_view nqn, int count);
  void SetSessionSource(std::function<int(const std::string& controller)> source);

  /// Returns the complete state as a string, except for details that are irrelevant to an agent;
  /// equal states give equal strings.
  std::string Dump();

  /// Returns the state as lines, one for each object: includes keys and the entries of removed
  /// crypto bdevs, excludes transports.
  std::set<std::string> Inventory() const;

 private:
  struct LateRequest {
    jsonrpc::Request request;
    jsonrpc::CallObjects objects;
  };
  struct Bdev {
    std::string name;
    std::string uuid;
    std::string product_name;
    uint64_t block_size = 0;
    uint64_t block_count = 0;
    bool claimed = false;
    std::map<std::string, uint64_t> limits{};
    jsonrpc::Json driver_specific = jsonrpc::Json::object();
    std::string controller = {};  // controller of an NVMe bdev
  };
  // A crypto bdev that was requested. Its base bdev may not exist yet.
  struct CryptoName {
    std::string name;
    std::string base_name;  // as in the request
    std::string key_name;
    bool owns_key = false;
  };
  // An address of a remote subsystem, either from an entry of a discovery log or of a controller's
  // path.
  struct RemotePath {
    std::string port;
    std::string nqn;
    std::string service = {};  // the discovery service that attached it; empty: attached by a call
    std::string hostnqn = {};
    friend bool operator==(const RemotePath& a, const RemotePath& b) {
      return a.port == b.port && a.nqn == b.nqn;
    }
  };
  // A started discovery service.
  struct RemoteService {
    std::string port;
    std::string hostnqn;
    FakeRemote seen;  // the state when it was last up
    bool has_log = false;
    std::vector<RemotePath> records;  // of the log as last read
    std::vector<RemotePath> own;      // those of the records that this service attached
    int next_number = 0;
  };
  // A connected remote subsystem.
  struct RemoteController {
    std::string nqn;
    std::vector<RemotePath> paths;
    FakeRemote seen;
    std::set<std::string> tried;  // UUIDs of namespaces for which creating a bdev was attempted
  };
  struct Namespace {
    std::string bdev_name;
    std::string uuid;
    std::string nguid;
  };
  struct Subsystem {
    bool is_discovery = false;
    bool allow_any_host = false;
    std::string serial_number = "00000000000000000000";
    std::string model_number = "SPDK bdev Controller";
    uint32_t max_namespaces = 32;
    std::vector<std::string> hosts;
    int host_count = 0;                    // connected hosts
    std::vector<jsonrpc::Json> listeners;  // newest first
    std::map<uint32_t, Namespace> namespaces;
  };
  struct VhostController {
    std::string bdev_name;  // empty: the bdev no longer exists
    int session_count = 0;
  };
  using Answer = absl::StatusOr<jsonrpc::Json>;
  using Handler = Answer (FakeTarget::*)(const jsonrpc::Json& params);

  // The result of one CallMany.
  struct Exchange {
    std::vector<Answer> results;
    base::TimePoint answered;
    std::set<size_t> unanswered;  // indexes in `results` that wait for the end of the context
    std::map<size_t, jsonrpc::Request> stuck;  // requests that wait for a storage node, by index
    bool is_impatient = false;
    uint64_t reconnected_as = 0;  // 0: the connection was not lost
    std::function<void(uint64_t)> on_connect;
  };

  static const std::map<std::string, Handler>& Handlers();
  Exchange Exchanged(const base::Context& context, std::span<const jsonrpc::Request> requests)
      SMA_REQUIRES(mutex_);

  absl::StatusOr<jsonrpc::Json> Serve(const base::Context& context, const jsonrpc::Request& request)
      SMA_REQUIRES(mutex_);
  void DoAllLate() SMA_REQUIRES(mutex_);
  void WaitForNodes(const base::Context& context, Exchange& exchange);
  void WaitForBdev(const base::Context& context, const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  void Reset() SMA_REQUIRES(mutex_);
  Answer GetVersion(const jsonrpc::Json& params);

  // Implemented in fake_target_nvmf.cc.
  Answer CreateTransport(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer GetTransports(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer GetSubsystems(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer CreateSubsystem(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer DeleteSubsystem(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer AddHost(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer RemoveHost(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer AllowAnyHost(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer AddListener(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer RemoveListener(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer GetListeners(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer AddNamespace(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer RemoveNamespace(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Subsystem* FindSubsystem(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);

  // Implemented in fake_target_bdev.cc.
  Answer CreateNullBdev(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer CreateMallocBdev(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer CreateBdev(const jsonrpc::Json& params, std::string_view product) SMA_REQUIRES(mutex_);
  Answer DeleteBdev(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer GetBdevs(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer SetQosLimit(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Bdev* FindBdev(std::string_view name) SMA_REQUIRES(mutex_);
  void RemoveBdev(const std::string& name) SMA_REQUIRES(mutex_);

  // Implemented in fake_target_crypto.cc.
  Answer CreateCryptoKey(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer GetCryptoKeys(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer DestroyCryptoKey(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer CreateCryptoBdev(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer DeleteCryptoBdev(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  absl::Status MakeCryptoBdevs(const std::string& base_name) SMA_REQUIRES(mutex_);
  void RemoveCryptoBdevsOf(const std::string& base_name) SMA_REQUIRES(mutex_);

  // Implemented in fake_target_vhost.cc.
  Answer CreateVhostBlk(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer GetHostControllers(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer GetVhostControllers(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer DeleteVhostController(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  int SessionsOf(const std::string& controller) SMA_REQUIRES(mutex_);

  // Implemented in fake_target_remote.cc.
  Answer StartDiscovery(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer StopDiscovery(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer GetDiscoveryInfo(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer AttachController(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer DetachController(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer GetControllers(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer CreateIscsiBdev(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  Answer DeleteIscsiBdev(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  FakeRemote* RemoteAt(const std::string& port) SMA_REQUIRES(mutex_);
  void FollowRemotes() SMA_REQUIRES(mutex_);
  void ReadLog(const std::string& name, RemoteService& service) SMA_REQUIRES(mutex_);
  std::string AttachRecord(const std::string& name, RemoteService& service,
                           const RemotePath& record) SMA_REQUIRES(mutex_);
  bool HasRemotePath(const RemotePath& path) SMA_REQUIRES(mutex_);
  void RemovePaths(const std::function<bool(const RemotePath&)>& matches) SMA_REQUIRES(mutex_);
  void FollowController(const std::string& name, RemoteController& controller) SMA_REQUIRES(mutex_);
  jsonrpc::Json DriverSpecific(const Bdev& bdev) SMA_REQUIRES(mutex_);
  bool IsDown(const std::string& bdev_name) SMA_REQUIRES(mutex_);
  /// Returns true if the request is not answered while the remote is in its current state.
  bool IsNeverAnswered(const jsonrpc::Request& request) SMA_REQUIRES(mutex_);

  // Implemented in fake_target_notify.cc.
  Answer GetNotifications(const jsonrpc::Json& params) SMA_REQUIRES(mutex_);
  void AddEvent(const char* type, const std::string& bdev_name) SMA_REQUIRES(mutex_);
  void NoteEvents() SMA_REQUIRES(mutex_);

  mutable base::Mutex mutex_;
  base::CondVar bdevs_changed_;
  std::map<std::string, Bdev> bdevs_ SMA_GUARDED_BY(mutex_);  // by name
  std::map<std::string, Subsystem> subsystems_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, VhostController> vhost_controllers_ SMA_GUARDED_BY(mutex_);
  std::set<std::string> transports_ SMA_GUARDED_BY(mutex_);
  std::vector<CryptoName> crypto_names_ SMA_GUARDED_BY(mutex_);  // in the order of creation
  std::map<std::string, jsonrpc::Json> crypto_keys_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, FakeRemote> remotes_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, RemoteService> discovery_services_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, RemoteController> controllers_ SMA_GUARDED_BY(mutex_);
  std::set<std::string> iscsi_urls_ SMA_GUARDED_BY(mutex_);
  std::set<std::string> hanging_portals_ SMA_GUARDED_BY(mutex_);
  bool discovery_pending_ SMA_GUARDED_BY(mutex_) = false;
  int incomplete_descriptions_ SMA_GUARDED_BY(mutex_) = 0;
  bool io_under_way_ SMA_GUARDED_BY(mutex_) = false;
  uint64_t keys_destroyed_in_use_ SMA_GUARDED_BY(mutex_) = 0;
  std::deque<jsonrpc::Json> events_ SMA_GUARDED_BY(mutex_);
  std::set<std::string> noted_bdevs_ SMA_GUARDED_BY(mutex_);  // bdevs in the events so far
  uint64_t next_event_id_ SMA_GUARDED_BY(mutex_) = 0;

  FaultPlan fault_plan_ SMA_GUARDED_BY(mutex_);
  std::function<void(uint64_t)> on_connect_ SMA_GUARDED_BY(mutex_);
  std::function<int(const std::string&)> session_source_ SMA_GUARDED_BY(mutex_);
  std::vector<LateRequest> late_ SMA_GUARDED_BY(mutex_);
  uint64_t late_after_ SMA_GUARDED_BY(mutex_) = 0;
  uint64_t calls_until_late_ SMA_GUARDED_BY(mutex_) = 0;
  bool late_reversed_ SMA_GUARDED_BY(mutex_) = false;
  bool impatient_ SMA_GUARDED_BY(mutex_) = false;
  bool waits_ SMA_GUARDED_BY(mutex_) = true;
  std::chrono::nanoseconds round_trip_ SMA_GUARDED_BY(mutex_){0};
  bool down_ SMA_GUARDED_BY(mutex_) = false;
  uint64_t generation_ SMA_GUARDED_BY(mutex_) = 1;
  uint64_t call_count_ SMA_GUARDED_BY(mutex_) = 0;
  uint64_t round_trip_count_ SMA_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> methods_ SMA_GUARDED_BY(mutex_);
};

/// Returns an error as a real target would answer it, for the handlers above.
absl::Status FakeError(int code, std::string_view message);
absl::Status FakeInvalidParameters();
absl::Status FakeDecodeFailed();

}  // namespace sma::spdk
