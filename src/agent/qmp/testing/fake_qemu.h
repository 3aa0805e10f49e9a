// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/qmp/address.h"
#include "agent/qmp/message.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "jsonrpc/splitter.h"

namespace sma::qmp {

/// A QMP server that behaves like QEMU 7.2 with one VM: it serves one client at a time, executes
/// commands in order, and has devices on buses and a guest that may or may not release devices. For
/// tests. Thread-safe.
class FakeQemu {
 public:
  /// The guest's reaction to a request to release a device.
  enum class Guest {
    kReleases,              // immediately after the command's answer
    kReleasesBeforeAnswer,  // before the answer, so that the event arrives first
    kIgnores,               // until ReleaseAll() is called
    kRefuses,               // reports that it refuses
  };

  /// A fault injected into one command.
  enum class Fault {
    kNone,
    kRefuse,      // answered with an error, not executed
    kDropCall,    // the connection is lost, not executed
    kLoseAnswer,  // executed, then the connection is lost
    kHang,        // executed, but never answered
  };
  using FaultPlan = std::function<Fault(const std::string& command)>;

  /// Listens at `path`, or on a free TCP port of the loopback interface if it is empty. There are
  /// two buses: "bus0", and "bus1" behind a bridge.
  explicit FakeQemu(std::string path = "");
  ~FakeQemu();

  Address address() const;

  /// Ends the VM: its devices no longer exist, and nothing listens. Idempotent.
  void Kill();
  /// Starts the VM again at the same address.
  void Start();
  /// Closes the client's connection; the VM keeps running.
  void DropClient();

  void SetGuest(Guest guest);
  /// Makes the guest release the requested devices.
  void ReleaseAll();
  /// Makes every command with this name fail with `description`; if that is empty, it succeeds
  /// again.
  void Refuse(std::string_view command, std::string_view description);
  /// Makes commands with this name execute without an answer; an empty name ends this.
  void Swallow(std::string_view command);
  /// `plan` is called before each command except the negotiation, on the server's thread and
  /// without a lock held. It may, for example, kill the VM, in which case the command is not
  /// executed.
  void SetFaultPlan(FaultPlan plan);
  /// Sets the devices on the VM's command line: for each id, the arguments of device_add. They
  /// exist from now on, and after each start.
  void SetCommandLine(std::map<std::string, Json> devices);
  /// Sets whether new clients are greeted.
  void SetGreets(bool greets);
  /// If `booted` is false, the VM's firmware has not run yet, so query-pci shows nothing behind
  /// bridges.
  void SetBooted(bool booted);
  void SetVersion(int major, int minor);
  /// Sets QEMU's option -uuid. A VM without it has a UUID of zeros.
  void SetUuid(std::string uuid);
  /// Sets whether character devices are connected; they are from the start.
  void SetConnected(bool connected);
  /// Adds a character device that leads to the Unix socket `path`, as another user of the VM would.
  void AddChardevByHand(const std::string& id, const std::string& path);
  /// Adds a device, with the arguments of device_add, as another user of the VM would.
  void AddDeviceByHand(const Json& arguments);
  /// Sets the names of the children that qom-list shows for every device.
  void SetDeviceParts(std::vector<std::string> names);

  /// Return the arguments of device_add or chardev-add, by id.
  std::map<std::string, Json> devices() const;
  std::map<std::string, Json> chardevs() const;
  /// Removes a device without an event, as another user of the VM would.
  void RemoveByHand(const std::string& id);
  bool HasDevice(const std::string& id) const;
  /// Returns the names of the received commands, except the negotiation.
  std::vector<std::string> commands() const;
  int connections() const;
  bool has_client() const;

 private:
  struct Reply {
    Json before = Json::array();  // events sent before the answer
    Json answer;                  // "return" or "error"
    Json after = Json::array();   // events sent after the answer
  };

  // Implemented in fake_qemu.cc.
  void Listen() SMA_REQUIRES(mutex_);
  void Run();
  std::vector<Json> ReceiveOrAccept(int fd) SMA_EXCLUDES(mutex_);
  std::vector<Json> Receive() SMA_REQUIRES(mutex_);
  void Take(const Json& request) SMA_EXCLUDES(mutex_);
  void Answer(const Json& request, Fault fault) SMA_REQUIRES(mutex_);
  void Reset() SMA_REQUIRES(mutex_);
  void Send(const Json& message) SMA_REQUIRES(mutex_);
  void CloseClient() SMA_REQUIRES(mutex_);
  void Wake();

  // Implemented in fake_qemu_commands.cc.
  static Json Failure(const std::string& description, const char* error_class = "GenericError");
  Reply Execute(const std::string& name, const Json& arguments) SMA_REQUIRES(mutex_);
  Reply AddChardev(const Json& arguments) SMA_REQUIRES(mutex_);
  Reply RemoveChardev(const Json& arguments) SMA_REQUIRES(mutex_);
  Reply AddDevice(const Json& arguments) SMA_REQUIRES(mutex_);
  Reply RemoveDevice(const Json& arguments) SMA_REQUIRES(mutex_);
  Reply QueryPci() SMA_REQUIRES(mutex_);
  Reply ListObject(const std::string& path) SMA_REQUIRES(mutex_);
  Reply GetProperty(const std::string& path, const std::string& property) SMA_REQUIRES(mutex_);
  Json DevicesOn(std::string_view bus) SMA_REQUIRES(mutex_);
  Json Release(const std::string& id) SMA_REQUIRES(mutex_);

  const std::string path_;
  uint16_t port_ = 0;
  base::UniqueFd wake_;

  mutable base::Mutex mutex_;
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  base::UniqueFd listener_ SMA_GUARDED_BY(mutex_);
  base::UniqueFd client_ SMA_GUARDED_BY(mutex_);
  std::optional<jsonrpc::Splitter> input_ SMA_GUARDED_BY(mutex_);
  bool negotiated_ SMA_GUARDED_BY(mutex_) = false;
  int connections_ SMA_GUARDED_BY(mutex_) = 0;

  Guest guest_ SMA_GUARDED_BY(mutex_) = Guest::kReleases;
  bool greets_ SMA_GUARDED_BY(mutex_) = true;
  bool booted_ SMA_GUARDED_BY(mutex_) = true;
  bool connected_ SMA_GUARDED_BY(mutex_) = true;
  Greeting version_ SMA_GUARDED_BY(mutex_){7, 2};
  std::string uuid_ SMA_GUARDED_BY(mutex_) = "00000000-0000-0000-0000-000000000000";
  std::vector<std::string> device_parts_ SMA_GUARDED_BY(mutex_);
  std::string swallowed_ SMA_GUARDED_BY(mutex_);
  FaultPlan fault_plan_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, Json> command_line_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, std::string, std::less<>> refused_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, Json> devices_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, Json> chardevs_ SMA_GUARDED_BY(mutex_);
  std::set<std::string> unplugging_ SMA_GUARDED_BY(mutex_);
  std::vector<std::string> commands_ SMA_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace sma::qmp
