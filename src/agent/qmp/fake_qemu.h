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

/// A QMP server that behaves as QEMU 7.2 does with one virtual machine behind it: one client at a
/// time, commands in order, devices on buses, guests that release devices or do not. For tests.
/// Thread-safe.
class FakeQemu {
 public:
  /// What the guest does when it is asked to release a device.
  enum class Guest {
    kReleases,              // at once, after the command's answer
    kReleasesBeforeAnswer,  // so fast that the event comes before the answer
    kIgnores,               // until ReleaseAll() is called
    kRefuses,               // tells so
  };

  /// What goes wrong with one command.
  enum class Fault {
    kNone,
    kRefuse,      // answered with an error, nothing done
    kDropCall,    // the connection is lost, nothing done
    kLoseAnswer,  // done, then the connection is lost
    kHang,        // done, but never answered
  };
  using FaultPlan = std::function<Fault(const std::string& command)>;

  /// Listens at `path`, or on a free TCP port of the loopback where it is empty. Two buses are
  /// there: "bus0", and "bus1" below a bridge of its own.
  explicit FakeQemu(std::string path = "");
  ~FakeQemu();

  Address address() const;

  /// Ends the machine: its devices are gone, and nobody listens. Again: nothing.
  void Kill();
  /// Starts it again at the same address.
  void Start();
  /// Closes the client's connection; the machine goes on.
  void DropClient();

  void SetGuest(Guest guest);
  /// The guest releases what it was asked for.
  void ReleaseAll();
  /// Every command of this name fails with `description`; empty: no longer.
  void Refuse(std::string_view command, std::string_view description);
  /// Commands of this name are executed but never answered; empty: none.
  void Swallow(std::string_view command);
  /// Asked before each command but the negotiation's, in the server's own thread, which holds no
  /// lock meanwhile: it may kill the machine, say, and then the command is not done.
  void SetFaultPlan(FaultPlan plan);
  /// Devices that its command line gives the machine, by id with the arguments of a device_add:
  /// there from now on, and after each start.
  void SetCommandLine(std::map<std::string, Json> devices);
  /// Whether new clients are greeted.
  void SetGreets(bool greets);
  /// The machine's firmware has not run yet: query-pci shows nothing behind bridges.
  void SetBooted(bool booted);
  void SetVersion(int major, int minor);
  /// Names of the parts that every device has, as qom-list tells them.
  void SetDeviceParts(std::vector<std::string> names);

  /// By id, the arguments of their device_add or chardev-add.
  std::map<std::string, Json> devices() const;
  std::map<std::string, Json> chardevs() const;
  /// Somebody else takes a device out, without an event.
  void RemoveByHand(const std::string& id);
  bool HasDevice(const std::string& id) const;
  /// Names of the commands that came, but for the negotiation's.
  std::vector<std::string> commands() const;
  int connections() const;
  bool has_client() const;

 private:
  struct Reply {
    Json before = Json::array();  // events that go out before the answer
    Json answer;                  // "return" or "error"
    Json after = Json::array();   // and after it
  };

  // fake_qemu.cc
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

  // fake_qemu_commands.cc
  static Json Failure(const std::string& description, const char* error_class = "GenericError");
  Reply Execute(const std::string& name, const Json& arguments) SMA_REQUIRES(mutex_);
  Reply AddChardev(const Json& arguments) SMA_REQUIRES(mutex_);
  Reply RemoveChardev(const Json& arguments) SMA_REQUIRES(mutex_);
  Reply AddDevice(const Json& arguments) SMA_REQUIRES(mutex_);
  Reply RemoveDevice(const Json& arguments) SMA_REQUIRES(mutex_);
  Reply QueryPci() SMA_REQUIRES(mutex_);
  Reply ListObject(const std::string& path) SMA_REQUIRES(mutex_);
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
  Greeting version_ SMA_GUARDED_BY(mutex_){7, 2};
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
