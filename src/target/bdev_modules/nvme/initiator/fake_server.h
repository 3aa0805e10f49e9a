#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "base/uuid.h"
#include "target/bdev_modules/nvme/initiator/address.h"
#include "target/nvme/fabrics.h"
#include "target/nvme/identify.h"
#include "target/nvme/identify_namespace.h"
#include "target/nvme/log_page.h"
#include "target/nvme/tcp_pdu.h"
#include "target/reactor/reactor.h"

namespace sma::target::initiator {

/// An NVMe/TCP controller for tests, on a loopback port of the system's choice, in the thread of
/// the test's reactor: one subsystem with namespaces in memory, or a discovery service. Tests
/// change what it says and how it fails.
class FakeServer {
 public:
  struct Namespace {
    base::Uuid uuid;
    std::string content;  // blocks of 512 bytes
    std::array<uint8_t, 16> nguid{};
    uint32_t ana_group = 1;
    bool write_protected = false;
  };
  /// What a command gets instead of the usual answer.
  struct Reply {
    nvme::Status status = nvme::Status::kSuccess;
    uint32_t dw0 = 0;
    uint32_t dw1 = 0;
    std::string data = {};
    bool silent = false;                      // no answer at all
    bool held = false;                        // answered by ReleaseHeld, or aborted
    std::optional<uint16_t> raw_status = {};  // the whole field instead of `status`
  };
  using Hook = std::function<std::optional<Reply>(uint16_t queue_id, const nvme::Command& command)>;

  explicit FakeServer(Reactor& reactor);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  Address address() const { return *Address::Parse("127.0.0.1", std::to_string(port_)); }

  /// Asked first for every command; nullopt: the usual answer.
  Hook hook;
  /// Sees the data that come with I/O commands.
  std::function<void(const nvme::Command& command, std::string_view data)> data_hook;
  /// The usual answers.
  std::map<uint32_t, Namespace> namespaces;
  std::vector<nvme::DiscoveryLogEntry> discovery_log;
  uint64_t discovery_generation = 1;
  nvme::IdentifyController identity;
  uint64_t cap = 0;
  uint16_t io_queue_limit = UINT16_MAX;  // of Number of Queues
  /// By group; not empty: identity.cmic and nanagrpid should say so, too.
  std::map<uint32_t, nvme::AnaState> ana_groups;

  /// Adds a namespace with a UUID made from `nsid`.
  void AddNamespace(uint32_t nsid, size_t block_count);

  /// Answers the Asynchronous Event Requests that wait; how many there were.
  int SendEvent(nvme::AsyncEventNotice notice, nvme::LogPage page);

  /// Executes the commands that were held, of one queue or of all; how many there were.
  int ReleaseHeld(std::optional<uint16_t> queue_id = {});

  /// Closes the connections; the port is still listened at.
  void DropConnections();
  void DropIoConnections();
  /// Closes the port, too; Listen opens the same again.
  void StopListening();
  void Listen();

  /// Connections that are open, admin and I/O.
  size_t connection_count() const { return connections_.size(); }
  /// ICReqs answered since the start.
  int accepted_count() const { return accepted_count_; }
  /// Commands seen with this opcode on the admin queues.
  int count(nvme::AdminOpcode opcode) const;
  const std::vector<std::string>& hostnqns() const { return hostnqns_; }

 private:
  class Acceptor;
  class Connection;
  friend class Connection;

  Reply Execute(Connection& connection, const nvme::Command& command, std::string_view data);
  Reply ExecuteAdmin(Connection& connection, const nvme::Command& command);
  Reply ExecuteFabrics(Connection& connection, const nvme::Command& command, std::string_view data);
  Reply ExecuteIo(const nvme::Command& command, std::string_view data);
  Reply Identify(const nvme::Command& command) const;
  Reply GetLogPage(const nvme::Command& command) const;
  std::string AnaLog() const;
  Reply Abort(const nvme::Command& command);
  void Remove(Connection& connection);

  Reactor& reactor_;
  uint16_t port_ = 0;
  std::unique_ptr<Acceptor> acceptor_;
  std::vector<std::unique_ptr<Connection>> connections_;
  int accepted_count_ = 0;
  std::map<uint8_t, int> admin_counts_;
  std::vector<std::string> hostnqns_;
};

}  // namespace sma::target::initiator
