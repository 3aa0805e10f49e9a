// SPDX-License-Identifier: Apache-2.0

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
#include "storage_target/bdev_modules/nvme/initiator/address.h"
#include "storage_target/nvme/fabrics.h"
#include "storage_target/nvme/identify.h"
#include "storage_target/nvme/identify_namespace.h"
#include "storage_target/nvme/log_page.h"
#include "storage_target/nvme/tcp_pdu.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::initiator {

/// An NVMe/TCP controller for tests: one subsystem with namespaces in memory, or a discovery
/// service. It listens on a loopback port chosen by the system and runs on the thread of the test's
/// reactor. Tests control its answers and faults.
class FakeServer {
 public:
  struct Namespace {
    base::Uuid uuid;
    std::string content;  // in blocks of 512 bytes
    std::array<uint8_t, 16> nguid{};
    uint32_t ana_group = 1;
    bool write_protected = false;
  };
  /// An answer to a command that replaces the default one.
  struct Reply {
    nvme::Status status = nvme::Status::kSuccess;
    uint32_t dw0 = 0;
    uint32_t dw1 = 0;
    std::string data = {};
    bool silent = false;                      // not answered
    bool held = false;                        // answered by ReleaseHeld or an abort
    std::optional<uint16_t> raw_status = {};  // the complete field, instead of `status`
  };
  using Hook = std::function<std::optional<Reply>(uint16_t queue_id, const nvme::Command& command)>;

  explicit FakeServer(Reactor& reactor);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  Address address() const { return *Address::Parse("127.0.0.1", std::to_string(port_)); }

  /// Called first for every command; if it returns nullopt, the default answer is sent.
  Hook hook;
  /// Called with the data of I/O commands.
  std::function<void(const nvme::Command& command, std::string_view data)> data_hook;
  /// The following members determine the default answers.
  std::map<uint32_t, Namespace> namespaces;
  std::vector<nvme::DiscoveryLogEntry> discovery_log;
  uint64_t discovery_generation = 1;
  nvme::IdentifyController identity;
  uint64_t cap = 0;
  uint16_t io_queue_limit = UINT16_MAX;  // for Number of Queues
  /// The ANA states by group. If not empty, identity.cmic and nanagrpid should be set accordingly.
  std::map<uint32_t, nvme::AnaState> ana_groups;

  /// Adds a namespace with a UUID derived from `nsid`.
  void AddNamespace(uint32_t nsid, size_t block_count);

  /// Answers the outstanding Asynchronous Event Requests and returns their number.
  int SendEvent(nvme::AsyncEventNotice notice, nvme::LogPage page);

  /// Executes the held commands of one queue or of all, and returns their number.
  int ReleaseHeld(std::optional<uint16_t> queue_id = {});

  /// Closes the connections; the port stays open.
  void DropConnections();
  void DropIoConnections();
  /// Stops reading and accepting, like a network that holds everything, until Thaw.
  void Freeze();
  void Thaw();
  /// Closes the connections and the port; Listen opens the same port again.
  void StopListening();
  void Listen();

  /// Returns the number of open connections, admin and I/O.
  size_t connection_count() const { return connections_.size(); }
  /// Returns the number of ICReqs answered since the start.
  int accepted_count() const { return accepted_count_; }
  /// Returns the number of commands with this opcode on the admin queues.
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

}  // namespace sma::storage_target::initiator
