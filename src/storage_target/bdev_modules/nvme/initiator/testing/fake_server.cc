// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/testing/fake_server.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "storage_target/nvme/nqn.h"
#include "storage_target/nvme/property.h"

namespace sma::storage_target::initiator {
namespace {

constexpr uint32_t kBlockSize = 512;

template <typename T>
std::string ToBytes(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace

class FakeServer::Acceptor : FdHandler {
 public:
  Acceptor(FakeServer& server, uint16_t port) : server_(server) {
    fd_.Reset(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    int on = 1;
    setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_storage storage{};
    socklen_t size = Address::Parse("127.0.0.1", std::to_string(port))->ToSockaddr(storage);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&storage), size), 0);
    EXPECT_EQ(listen(fd_.get(), 64), 0);
    Thaw();
  }
  ~Acceptor() override { Freeze(); }

  void Freeze() { server_.reactor_.Unwatch(fd_.get()); }
  void Thaw() { server_.reactor_.Watch(fd_.get(), EPOLLIN, this); }

  uint16_t port() const {
    sockaddr_in name{};
    socklen_t size = sizeof name;
    getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&name), &size);
    return ntohs(name.sin_port);
  }

 private:
  void OnFdReady(uint32_t events) override;

  FakeServer& server_;
  base::UniqueFd fd_;
};

// One connection: answers each PDU as soon as it is complete. Answers are small, so writing never
// blocks for long.
class FakeServer::Connection : FdHandler {
 public:
  Connection(FakeServer& server, base::UniqueFd fd) : server_(server), fd_(std::move(fd)) {
    Thaw();
  }
  ~Connection() override { Freeze(); }

  void Freeze() { server_.reactor_.Unwatch(fd_.get()); }
  void Thaw() { server_.reactor_.Watch(fd_.get(), EPOLLIN, this); }

  void Respond(const nvme::Command& command, const Reply& reply);

  uint16_t queue_id = 0;
  uint32_t cc = 0;
  std::vector<nvme::Command> event_requests;
  struct PendingWrite {
    nvme::Command command;
    std::string data;
  };
  std::vector<PendingWrite> held;

 private:
  void OnFdReady(uint32_t events) override;
  bool HandlePdu();
  void HandleCommand(const nvme::Command& command, std::string_view in_capsule);
  void HandleData(const nvme::tcp::DataPdu& pdu, std::string_view data);
  void Run(const nvme::Command& command, std::string_view data);
  void Send(std::string_view bytes);

  FakeServer& server_;
  base::UniqueFd fd_;
  std::string input_;
  nvme::tcp::NegotiatedParams negotiated_;
  std::map<uint16_t, PendingWrite> writes_;
};

void FakeServer::Acceptor::OnFdReady(uint32_t /*events*/) {
  base::UniqueFd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (fd) server_.connections_.push_back(std::make_unique<Connection>(server_, std::move(fd)));
}

void FakeServer::Connection::OnFdReady(uint32_t /*events*/) {
  std::array<char, 65536> buffer;
  ssize_t size = recv(fd_.get(), buffer.data(), buffer.size(), 0);
  if (size <= 0) {
    if (size == 0 || errno != EAGAIN) server_.Remove(*this);
    return;
  }
  input_.append(buffer.data(), static_cast<size_t>(size));
  while (HandlePdu()) {
  }
}

bool FakeServer::Connection::HandlePdu() {
  nvme::tcp::CommonHeader header;
  if (input_.size() < sizeof header) return false;
  std::memcpy(&header, input_.data(), sizeof header);
  if (input_.size() < header.plen) return false;
  nvme::tcp::Layout layout;
  nvme::tcp::Fault fault = CheckHeader(header, /*from_host=*/true, negotiated_, layout);
  EXPECT_FALSE(fault) << "fes " << static_cast<int>(fault.fes);
  const std::string pdu = input_.substr(0, header.plen);
  input_.erase(0, header.plen);
  const std::string_view data = std::string_view(pdu).substr(layout.data_offset, layout.data_size);
  if (header.type == nvme::tcp::PduType::kIcReq) {
    nvme::tcp::IcResp response;
    response.maxh2cdata = negotiated_.maxh2cdata = 16384;
    negotiated_.max_in_capsule = 8192;
    negotiated_.initialized = true;
    ++server_.accepted_count_;
    Send(ToBytes(response));
  } else if (header.type == nvme::tcp::PduType::kCapsuleCmd) {
    nvme::tcp::CapsuleCmd capsule;
    std::memcpy(&capsule, pdu.data(), sizeof capsule);
    HandleCommand(capsule.command, data);
  } else if (header.type == nvme::tcp::PduType::kH2cData) {
    nvme::tcp::DataPdu data_pdu;
    std::memcpy(&data_pdu, pdu.data(), sizeof data_pdu);
    HandleData(data_pdu, data);
  }
  return true;
}

void FakeServer::Connection::HandleCommand(const nvme::Command& command,
                                           std::string_view in_capsule) {
  bool wants_data = queue_id != 0 && command.sgl.length > 0 && in_capsule.empty() &&
                    nvme::TransferOf(command.opcode) == nvme::Transfer::kHostToController;
  if (!wants_data) return Run(command, in_capsule);
  writes_[command.cid] = {command, {}};
  nvme::tcp::R2t pdu;
  pdu.header = MakeHeader(nvme::tcp::PduType::kR2t, negotiated_, 0);
  pdu.cccid = command.cid;
  pdu.ttag = command.cid;
  pdu.length = command.sgl.length;
  Send(ToBytes(pdu));
}

void FakeServer::Connection::HandleData(const nvme::tcp::DataPdu& pdu, std::string_view data) {
  PendingWrite& write = writes_[pdu.cccid];
  write.data += data;
  if ((pdu.header.flags & nvme::tcp::kFlagLastPdu) == 0) return;
  PendingWrite whole = std::move(write);
  writes_.erase(pdu.cccid);
  Run(whole.command, whole.data);
}

void FakeServer::Connection::Run(const nvme::Command& command, std::string_view data) {
  if (queue_id == 0) ++server_.admin_counts_[command.opcode];
  if (queue_id != 0 && server_.data_hook) server_.data_hook(command, data);
  std::optional<Reply> reply = server_.hook ? server_.hook(queue_id, command) : std::nullopt;
  if (reply && reply->held) {
    held.push_back({command, std::string(data)});
    return;
  }
  Respond(command, reply ? *reply : server_.Execute(*this, command, data));
}

void FakeServer::Connection::Respond(const nvme::Command& command, const Reply& reply) {
  if (reply.silent) return;
  std::string bytes;
  if (!reply.data.empty()) {
    std::string data = reply.data;
    data.resize(command.sgl.length);
    nvme::tcp::DataPdu pdu;
    pdu.header = MakeHeader(nvme::tcp::PduType::kC2hData, negotiated_, command.sgl.length);
    pdu.header.flags |= nvme::tcp::kFlagLastPdu;
    pdu.cccid = command.cid;
    pdu.data_length = command.sgl.length;
    bytes = ToBytes(pdu) + data;
  }
  nvme::tcp::CapsuleResp response;
  response.completion = {.dw0 = reply.dw0,
                         .dw1 = reply.dw1,
                         .cid = command.cid,
                         .status = reply.raw_status.value_or(nvme::StatusField(reply.status))};
  Send(bytes + ToBytes(response));
}

void FakeServer::Connection::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t size = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (size < 0 && errno != EAGAIN) return;
    if (size > 0) bytes.remove_prefix(static_cast<size_t>(size));
  }
}

FakeServer::FakeServer(Reactor& reactor) : reactor_(reactor) {
  identity.controller_id = 1;
  identity.ioccsz = (64 + 4096) / 16;
  identity.mdts = 5;
  identity.oaes = nvme::kOaesNamespaceAttributes | nvme::kOaesDiscoveryLogChange;
  identity.oncs = nvme::kOncsCompare | nvme::kOncsDatasetManagement | nvme::kOncsWriteZeroes;
  nvme::SetPadded(identity.serial_number, "FAKE0001", ' ');
  nvme::SetPadded(identity.model_number, "Fake controller", ' ');
  nvme::SetPadded(identity.firmware_revision, "1.0", ' ');
  cap = nvme::Capabilities{.max_queue_entries = 128, .timeout_500ms = 1}.Encode();
  Listen();
}

FakeServer::~FakeServer() = default;

void FakeServer::Listen() {
  acceptor_ = std::make_unique<Acceptor>(*this, port_);
  port_ = acceptor_->port();
}

void FakeServer::StopListening() {
  acceptor_.reset();
  connections_.clear();
}

void FakeServer::Freeze() {
  acceptor_->Freeze();
  for (auto& connection : connections_) connection->Freeze();
}

void FakeServer::Thaw() {
  acceptor_->Thaw();
  for (auto& connection : connections_) connection->Thaw();
}

void FakeServer::DropConnections() { connections_.clear(); }

void FakeServer::DropIoConnections() {
  std::erase_if(connections_, [](const auto& connection) { return connection->queue_id != 0; });
}

void FakeServer::AddNamespace(uint32_t nsid, size_t block_count) {
  std::array<uint8_t, base::Uuid::kSize> uuid{};
  uuid.fill(0x11);
  uuid[15] = static_cast<uint8_t>(nsid);
  namespaces[nsid] = {base::Uuid(uuid), std::string(block_count * kBlockSize, '\0')};
}

int FakeServer::SendEvent(nvme::AsyncEventNotice notice, nvme::LogPage page) {
  int sent = 0;
  uint32_t dw0 = nvme::AsyncEventDw0(nvme::AsyncEventType::kNotice, static_cast<uint8_t>(notice),
                                     static_cast<uint8_t>(page));
  for (auto& connection : connections_) {
    for (const nvme::Command& command : std::exchange(connection->event_requests, {})) {
      connection->Respond(command, {.dw0 = dw0});
      ++sent;
    }
  }
  return sent;
}

int FakeServer::count(nvme::AdminOpcode opcode) const {
  auto found = admin_counts_.find(static_cast<uint8_t>(opcode));
  return found == admin_counts_.end() ? 0 : found->second;
}

void FakeServer::Remove(Connection& connection) {
  std::erase_if(connections_, [&](const auto& owned) { return owned.get() == &connection; });
}

FakeServer::Reply FakeServer::Execute(Connection& connection, const nvme::Command& command,
                                      std::string_view data) {
  if (command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kFabrics)) {
    return ExecuteFabrics(connection, command, data);
  }
  return connection.queue_id == 0 ? ExecuteAdmin(connection, command) : ExecuteIo(command, data);
}

FakeServer::Reply FakeServer::ExecuteFabrics(Connection& connection, const nvme::Command& command,
                                             std::string_view data) {
  if (nvme::FabricsTypeOf(command) == nvme::FabricsType::kConnect) {
    connection.queue_id = std::bit_cast<nvme::ConnectCommand>(command).queue_id;
    nvme::ConnectData connect;
    std::memcpy(&connect, data.data(), sizeof connect);
    hostnqns_.emplace_back(nvme::NulTerminated(connect.host_nqn));
    return {.dw0 = identity.controller_id};
  }
  auto property = std::bit_cast<nvme::PropertyCommand>(command);
  if (property.type == nvme::FabricsType::kPropertySet) {
    connection.cc = static_cast<uint32_t>(property.value);
    return {};
  }
  uint64_t value = 0;
  switch (static_cast<nvme::Property>(property.offset)) {
    case nvme::Property::kCap:
      value = cap;
      break;
    case nvme::Property::kVs:
      value = nvme::MakeVersion(1, 4);
      break;
    case nvme::Property::kCsts:
      value = (connection.cc & nvme::kCcEnable ? nvme::kCstsReady : 0) |
              (nvme::CcShn(connection.cc) != 0 ? nvme::kCstsShutdownComplete : 0);
      break;
    default:
      break;
  }
  return {.dw0 = static_cast<uint32_t>(value), .dw1 = static_cast<uint32_t>(value >> 32)};
}

FakeServer::Reply FakeServer::ExecuteAdmin(Connection& connection, const nvme::Command& command) {
  switch (static_cast<nvme::AdminOpcode>(command.opcode)) {
    case nvme::AdminOpcode::kIdentify:
      return Identify(command);
    case nvme::AdminOpcode::kGetLogPage:
      return GetLogPage(command);
    case nvme::AdminOpcode::kSetFeatures:
      if ((command.cdw10 & 0xff) == static_cast<uint32_t>(nvme::Feature::kNumberOfQueues)) {
        uint32_t count = std::min<uint32_t>(command.cdw11 & 0xffff, io_queue_limit - 1u);
        return {.dw0 = count << 16 | count};
      }
      return {.dw0 = command.cdw11};
    case nvme::AdminOpcode::kAbort:
      return Abort(command);
    case nvme::AdminOpcode::kAsyncEventRequest:
      connection.event_requests.push_back(command);
      return {.silent = true};
    default:
      return {};
  }
}

FakeServer::Reply FakeServer::Abort(const nvme::Command& command) {
  for (auto& connection : connections_) {
    if (connection->queue_id != (command.cdw10 & 0xffff)) continue;
    auto& held = connection->held;
    auto found = std::find_if(held.begin(), held.end(), [&](const auto& one) {
      return one.command.cid == command.cdw10 >> 16;
    });
    if (found == held.end()) continue;
    const nvme::Command aborted = found->command;
    held.erase(found);
    connection->Respond(aborted, {.status = nvme::Status::kAbortRequested});
    return {};
  }
  return {.dw0 = 1};
}

int FakeServer::ReleaseHeld(std::optional<uint16_t> queue_id) {
  int released = 0;
  for (auto& connection : connections_) {
    if (queue_id && connection->queue_id != *queue_id) continue;
    for (const auto& one : std::exchange(connection->held, {})) {
      connection->Respond(one.command, Execute(*connection, one.command, one.data));
      ++released;
    }
  }
  return released;
}

FakeServer::Reply FakeServer::Identify(const nvme::Command& command) const {
  auto found = namespaces.find(command.nsid);
  switch (static_cast<nvme::Cns>(command.cdw10 & 0xff)) {
    case nvme::Cns::kController:
      return {.data = ToBytes(identity)};
    case nvme::Cns::kActiveNamespaceList: {
      nvme::NamespaceList list{};
      size_t at = 0;
      for (const auto& [nsid, unused] : namespaces) {
        if (nsid > command.nsid && at < list.size()) list[at++] = nsid;
      }
      return {.data = ToBytes(list)};
    }
    case nvme::Cns::kNamespace: {
      nvme::IdentifyNamespace data;
      if (found != namespaces.end()) {
        const Namespace& ns = found->second;
        data.nsze = ns.content.size() / kBlockSize;
        data.nguid = ns.nguid;
        data.anagrpid = ns.ana_group;
        data.nsattr = ns.write_protected ? nvme::kNsattrWriteProtected : 0;
      }
      data.lba_formats[0].block_shift = 9;
      data.nmic = nvme::kNmicShared;
      return {.data = ToBytes(data)};
    }
    case nvme::Cns::kNamespaceDescriptors: {
      nvme::NamespaceDescriptor header{nvme::NamespaceIdType::kUuid, base::Uuid::kSize};
      std::string list(nvme::kIdentifySize, '\0');
      if (found != namespaces.end()) {
        list.replace(0, sizeof header, ToBytes(header));
        list.replace(sizeof header, base::Uuid::kSize, found->second.uuid.ToBytes());
      }
      return {.data = list};
    }
    default:
      return {.status = nvme::Status::kInvalidField};
  }
}

FakeServer::Reply FakeServer::GetLogPage(const nvme::Command& command) const {
  auto page = nvme::GetLogPage::Decode(command);
  std::string log(1, '\0');
  if (page.page == nvme::LogPage::kDiscovery) {
    nvme::DiscoveryLogHeader header;
    header.generation = discovery_generation;
    header.record_count = discovery_log.size();
    log = ToBytes(header);
    for (const nvme::DiscoveryLogEntry& entry : discovery_log) log += ToBytes(entry);
  }
  if (page.page == nvme::LogPage::kAna) log = AnaLog();
  log.resize(std::max<size_t>(log.size(), page.offset_bytes + page.size_bytes));
  return {.data = log.substr(page.offset_bytes, page.size_bytes)};
}

std::string FakeServer::AnaLog() const {
  nvme::AnaLogHeader header;
  header.group_count = static_cast<uint16_t>(ana_groups.size());
  std::string log = ToBytes(header);
  for (const auto& [id, state] : ana_groups) {
    nvme::AnaGroupDescriptor group;
    group.group_id = id;
    group.state = static_cast<uint8_t>(state);
    log += ToBytes(group);
  }
  return log;
}

FakeServer::Reply FakeServer::ExecuteIo(const nvme::Command& command, std::string_view data) {
  auto found = namespaces.find(command.nsid);
  if (found == namespaces.end()) {
    return {.status = nvme::Status::kInvalidNamespaceOrFormat};
  }
  std::string& content = found->second.content;
  size_t offset = command.lba() * kBlockSize;
  size_t size = ((command.cdw12 & nvme::kNlbMask) + 1) * kBlockSize;
  auto opcode = static_cast<nvme::IoOpcode>(command.opcode);
  bool has_range = opcode == nvme::IoOpcode::kRead || opcode == nvme::IoOpcode::kWrite ||
                   opcode == nvme::IoOpcode::kCompare || opcode == nvme::IoOpcode::kWriteZeroes;
  if (has_range && offset + size > content.size()) {
    return {.status = nvme::Status::kLbaOutOfRange};
  }
  switch (opcode) {
    case nvme::IoOpcode::kRead:
      return {.data = content.substr(offset, size)};
    case nvme::IoOpcode::kWrite:
      content.replace(offset, size, data);
      return {};
    case nvme::IoOpcode::kCompare:
      if (content.compare(offset, size, data) == 0) return {};
      return {.status = nvme::Status::kCompareFailure};
    case nvme::IoOpcode::kWriteZeroes:
      content.replace(offset, size, size, '\0');
      return {};
    case nvme::IoOpcode::kFlush:
    case nvme::IoOpcode::kDatasetManagement:
      return {};
    default:
      return {.status = nvme::Status::kInvalidOpcode};
  }
}

}  // namespace sma::storage_target::initiator
