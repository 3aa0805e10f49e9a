// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/testing/fake_portal.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace sma::storage_target::bdev_iscsi {
namespace {

// PDUs (RFC 7143 §11): a basic header segment of 48 bytes, then the data, padded to 4 bytes.
constexpr size_t kHeaderBytes = 48;
enum Opcode : uint8_t {
  kNopOut = 0x00,
  kScsiCommand = 0x01,
  kTaskManagement = 0x02,
  kLogin = 0x03,
  kLogout = 0x06,
};
constexpr uint8_t kResponse = 0x20;
constexpr uint8_t kDataIn = 0x25;
constexpr uint8_t kFinal = 0x80;
// Sense keys (SPC-4 table 28).
constexpr uint8_t kIllegalRequest = 0x05;
constexpr uint8_t kUnitAttention = 0x06;

}  // namespace

struct FakePortal::Pdu {
  std::array<uint8_t, kHeaderBytes> header{};
  std::string data{};

  uint32_t Get32(size_t at) const {
    uint32_t value = 0;
    std::memcpy(&value, header.data() + at, sizeof value);
    return ntohl(value);
  }
  void Put32(size_t at, uint32_t value) {
    value = htonl(value);
    std::memcpy(header.data() + at, &value, sizeof value);
  }
  size_t data_size() const { return size_t{header[5]} << 16 | size_t{header[6]} << 8 | header[7]; }
  const uint8_t* cdb() const { return header.data() + 32; }
};

namespace {

size_t Padded(size_t size) { return (size + 3) / 4 * 4; }

// Returns KEY=VALUE pairs, each with a terminating NUL.
std::string Text(std::initializer_list<const char*> pairs) {
  std::string text;
  for (const char* pair : pairs) text.append(pair, std::strlen(pair) + 1);
  return text;
}

}  // namespace

class FakePortal::Acceptor : FdHandler {
 public:
  explicit Acceptor(FakePortal& portal)
      : portal_(portal), fd_(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof name;
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&name), size), 0);
    EXPECT_EQ(listen(fd_.get(), 16), 0);
    getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&name), &size);
    port = ntohs(name.sin_port);
    portal_.reactor_.Watch(fd_.get(), EPOLLIN, this);
  }
  ~Acceptor() override { portal_.reactor_.Unwatch(fd_.get()); }

  uint16_t port = 0;

 private:
  void OnFdReady(uint32_t events) override;

  FakePortal& portal_;
  base::UniqueFd fd_;
};

class FakePortal::Connection : FdHandler {
 public:
  Connection(FakePortal& portal, base::UniqueFd fd) : portal_(portal), fd_(std::move(fd)) {
    portal_.reactor_.Watch(fd_.get(), EPOLLIN, this);
  }
  ~Connection() override { portal_.reactor_.Unwatch(fd_.get()); }

  int Release() {
    std::vector<Pdu> held = std::exchange(held_, {});
    for (const Pdu& command : held) Execute(command);
    return static_cast<int>(held.size());
  }

 private:
  void OnFdReady(uint32_t events) override;
  bool HandlePdu();
  void Handle(const Pdu& request);
  void HandleLogin(const Pdu& request);
  void HandleTask(const Pdu& request);
  void Execute(const Pdu& command);
  void SendData(const Pdu& command, std::string data, size_t offset);
  void Refuse(const Pdu& command, uint8_t sense_key, uint16_t asc_ascq);
  std::string Inquiry(const Pdu& command);
  void Send(Pdu pdu);
  /// Returns a response to `request` with its task tag and the sequence numbers.
  Pdu Answer(const Pdu& request, uint8_t opcode) const;

  FakePortal& portal_;
  base::UniqueFd fd_;
  std::string input_;
  std::vector<Pdu> held_;
  std::string isid_;
  uint32_t stat_sn_ = 1;
  uint32_t next_cmd_sn_ = 1;
};

void FakePortal::Acceptor::OnFdReady(uint32_t /*events*/) {
  base::UniqueFd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) return;
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  portal_.connections_.push_back(std::make_unique<Connection>(portal_, std::move(fd)));
}

void FakePortal::Connection::OnFdReady(uint32_t /*events*/) {
  std::array<char, 65536> buffer;
  ssize_t size = recv(fd_.get(), buffer.data(), buffer.size(), 0);
  if (size <= 0) {
    if (size == 0 || errno != EAGAIN) {
      if (size < 0 && errno == ECONNRESET) ++portal_.reset_count;
      std::erase_if(portal_.connections_, [this](const auto& one) { return one.get() == this; });
    }
    return;
  }
  input_.append(buffer.data(), static_cast<size_t>(size));
  while (HandlePdu()) {
  }
}

bool FakePortal::Connection::HandlePdu() {
  Pdu pdu;
  if (input_.size() < kHeaderBytes) return false;
  std::memcpy(pdu.header.data(), input_.data(), kHeaderBytes);
  size_t size = kHeaderBytes + Padded(pdu.data_size());
  if (input_.size() < size) return false;
  pdu.data = input_.substr(kHeaderBytes, pdu.data_size());
  input_.erase(0, size);
  constexpr uint8_t kImmediate = 0x40;
  if ((pdu.header[0] & kImmediate) == 0) next_cmd_sn_ = pdu.Get32(24) + 1;
  Handle(pdu);
  return true;
}

void FakePortal::Connection::Handle(const Pdu& request) {
  switch (request.header[0] & 0x3f) {
    case kLogin:
      return HandleLogin(request);
    case kNopOut:
    case kLogout:
      return Send(Answer(request, request.header[0] & 0x3f));
    case kTaskManagement:
      return HandleTask(request);
    case kScsiCommand: {
      bool is_io = request.cdb()[0] == 0x88 || request.cdb()[0] == 0x8a;
      portal_.io_count += is_io ? 1 : 0;
      if (!is_io || !portal_.hold) return Execute(request);
      held_.push_back(request);
      return;
    }
    default:
      ADD_FAILURE() << "opcode " << int{request.header[0]};
  }
}

// Moves to the stage that the initiator requests, without authentication.
void FakePortal::Connection::HandleLogin(const Pdu& request) {
  next_cmd_sn_ = request.Get32(24);
  Pdu answer = Answer(request, kLogin);
  answer.header[1] = request.header[1];
  std::copy_n(request.header.begin() + 8, 6, answer.header.begin() + 8);  // ISID
  answer.header[15] = 1;                                                  // TSIH
  bool security = (request.header[1] >> 2 & 3) == 0;
  if (isid_.empty()) {
    isid_.assign(request.header.begin() + 8, request.header.begin() + 14);
    portal_.isids.push_back(isid_);
  }
  answer.data = security ? Text({"AuthMethod=None", "TargetPortalGroupTag=1"})
                         : Text({"HeaderDigest=None", "DataDigest=None", "InitialR2T=No",
                                 "ImmediateData=Yes", "MaxRecvDataSegmentLength=262144",
                                 "MaxBurstLength=262144", "FirstBurstLength=262144"});
  Send(answer);
}

void FakePortal::Connection::HandleTask(const Pdu& request) {
  ++portal_.abort_count;
  size_t erased =
      std::erase_if(held_, [&](const Pdu& held) { return held.Get32(16) == request.Get32(20); });
  Pdu answer = Answer(request, kTaskManagement);
  answer.header[2] = erased != 0 ? 0 : 1;  // function complete; task does not exist
  Send(answer);
}

void FakePortal::Connection::Execute(const Pdu& command) {
  const uint8_t* cdb = command.cdb();
  bool is_io = cdb[0] == 0x88 || cdb[0] == 0x8a;
  if (portal_.unknown_opcodes.contains(cdb[0])) return Refuse(command, kIllegalRequest, 0x2000);
  if (is_io && !portal_.connected) return Refuse(command, kIllegalRequest, 0x2500);
  if (is_io && portal_.unit_attention) {
    portal_.unit = portal_.next_unit;
    return Refuse(command, kUnitAttention, *std::exchange(portal_.unit_attention, std::nullopt));
  }
  std::string data;
  size_t size = SIZE_MAX;  // bytes that are sent
  bool has_data = (command.header[1] & 0x40) != 0;
  switch (cdb[0]) {
    case 0x12:
      data = Inquiry(command);
      break;
    case 0x1a:  // MODE SENSE (6)
      data = std::string{3, 0, static_cast<char>(portal_.write_protected ? 0x80 : 0), 0};
      break;
    case 0x9e:  // READ CAPACITY (16)
      data = std::string(32, '\0');
      data[7] = static_cast<char>(portal_.content.size() / kBlockSize - 1);
      data[10] = static_cast<char>(kBlockSize >> 8);
      break;
    case 0x88:
      data = portal_.content.substr(size_t{cdb[9]} * kBlockSize, command.Get32(20));
      size = portal_.read_bytes.value_or(SIZE_MAX);
      break;
    case 0x8a:
      portal_.content.replace(size_t{cdb[9]} * kBlockSize, command.data.size(), command.data);
      break;
    case 0x35:  // SYNCHRONIZE CACHE (10), (16)
    case 0x91:
      ++portal_.flush_count;
      break;
    default:
      break;
  }
  Pdu answer = Answer(command, kScsiCommand);
  const uint32_t wanted = command.Get32(20);
  data.resize(std::min<size_t>(data.size(), wanted));
  if (!is_io && data.size() < wanted) {
    answer.header[1] |= 0x02;  // underflow
    answer.Put32(44, wanted - static_cast<uint32_t>(data.size()));
  }
  if (is_io && portal_.residual != 0) {
    answer.header[1] |= portal_.residual > 0 ? 0x02 : 0x04;
    answer.Put32(44, static_cast<uint32_t>(std::abs(portal_.residual)));
  }
  data.resize(std::min(data.size(), size));
  if (has_data && !data.empty()) {
    const auto& [gap, rest] = cdb[0] == 0x88 ? portal_.read_gap : std::pair<size_t, size_t>();
    if (rest > gap) SendData(command, data.substr(0, gap), 0);
    SendData(command, data.substr(rest), rest);
  }
  Send(answer);
}

// Sends all data in one PDU, without the status.
void FakePortal::Connection::SendData(const Pdu& command, std::string data, size_t offset) {
  Pdu in = Answer(command, kDataIn - kResponse);
  in.Put32(20, UINT32_MAX);
  in.Put32(40, static_cast<uint32_t>(offset));
  in.data = std::move(data);
  Send(in);
}

// The sense data are in fixed format (SPC-4 §4.5.3).
void FakePortal::Connection::Refuse(const Pdu& command, uint8_t sense_key, uint16_t asc_ascq) {
  constexpr uint8_t kCheckCondition = 0x02;
  Pdu answer = Answer(command, kScsiCommand);
  answer.header[3] = kCheckCondition;
  std::string sense(18, '\0');
  sense[0] = 0x70;
  sense[2] = static_cast<char>(sense_key);
  sense[7] = 10;
  sense[12] = static_cast<char>(asc_ascq >> 8);
  sense[13] = static_cast<char>(asc_ascq);
  answer.data = std::string{'\0', static_cast<char>(sense.size())} + sense;
  Send(answer);
}

std::string FakePortal::Connection::Inquiry(const Pdu& command) {
  bool vital = (command.cdb()[1] & 1) != 0;
  if (!vital) return std::string(36, '\0');  // the device type of a disk
  std::string page(4, '\0');
  page[1] = static_cast<char>(command.cdb()[2]);
  if (!portal_.connected) page[0] = 0x7f;
  if (command.cdb()[2] != 0x83) return page;
  std::string name{"\x01\x03\x00\x08\x00\x01\x02\x03\x04\x05\x06\x07", 12};
  portal_.identity_isids.push_back(isid_);
  name[4] = static_cast<char>(portal_.naa << 4);
  name[11] = static_cast<char>(portal_.unit);
  page[3] = static_cast<char>(name.size());
  return page + name;
}

FakePortal::Pdu FakePortal::Connection::Answer(const Pdu& request, uint8_t opcode) const {
  Pdu answer;
  answer.header[0] = opcode | kResponse;
  answer.header[1] = kFinal;
  std::copy_n(request.header.begin() + 16, 4, answer.header.begin() + 16);  // ITT
  answer.Put32(28, next_cmd_sn_);
  answer.Put32(32, next_cmd_sn_ + 128);
  return answer;
}

void FakePortal::Connection::Send(Pdu pdu) {
  pdu.Put32(24, pdu.header[0] == kDataIn ? 0 : stat_sn_++);
  if (pdu.header[0] == (kNopOut | kResponse)) pdu.Put32(20, UINT32_MAX);
  pdu.header[5] = static_cast<uint8_t>(pdu.data.size() >> 16);
  pdu.header[6] = static_cast<uint8_t>(pdu.data.size() >> 8);
  pdu.header[7] = static_cast<uint8_t>(pdu.data.size());
  std::string bytes(reinterpret_cast<const char*>(pdu.header.data()), kHeaderBytes);
  bytes += pdu.data;
  bytes.resize(Padded(bytes.size()));
  std::string_view left = bytes;
  while (!left.empty()) {
    ssize_t size = send(fd_.get(), left.data(), left.size(), MSG_NOSIGNAL);
    if (size < 0 && errno != EAGAIN) return;
    if (size > 0) left.remove_prefix(static_cast<size_t>(size));
  }
}

FakePortal::FakePortal(Reactor& reactor)
    : reactor_(reactor), acceptor_(std::make_unique<Acceptor>(*this)) {}

FakePortal::~FakePortal() = default;

std::string FakePortal::url() const {
  return "iscsi://127.0.0.1:" + std::to_string(acceptor_->port) + "/" + target + "/0";
}

int FakePortal::Release() {
  int released = 0;
  for (auto& connection : connections_) released += connection->Release();
  return released;
}

void FakePortal::DropConnections() { connections_.clear(); }

}  // namespace sma::storage_target::bdev_iscsi
