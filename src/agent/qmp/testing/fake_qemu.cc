// SPDX-License-Identifier: Apache-2.0

#include "agent/qmp/testing/fake_qemu.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <utility>

namespace sma::qmp {

using base::MutexLock;

namespace {

constexpr size_t kReceiveBytes = 4096;
constexpr size_t kMaxRequestBytes = 1 << 20;

base::UniqueFd ListenUnix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  ::unlink(path.c_str());
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) std::abort();
  return fd;
}

base::UniqueFd ListenTcp(uint16_t& port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) std::abort();
  socklen_t size = sizeof(address);
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
  port = ntohs(address.sin_port);
  return fd;
}

}  // namespace

FakeQemu::FakeQemu(std::string path)
    : path_(std::move(path)), wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  {
    MutexLock lock(mutex_);
    CloseClient();
    Listen();
  }
  thread_ = std::thread([this] { Run(); });
}

FakeQemu::~FakeQemu() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
  if (!path_.empty()) ::unlink(path_.c_str());
}

Address FakeQemu::address() const {
  if (!path_.empty()) return {.host = "", .port = 0, .path = path_};
  return {.host = "127.0.0.1", .port = port_, .path = ""};
}

void FakeQemu::Listen() {
  listener_ = path_.empty() ? ListenTcp(port_) : ListenUnix(path_);
  // As with QEMU, the next client can connect but is not served until the current one has
  // disconnected.
  if (::listen(listener_.get(), 1) != 0) std::abort();
}

void FakeQemu::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(wake_.get(), &one, sizeof(one));
}

void FakeQemu::CloseClient() {
  client_.Reset();
  negotiated_ = false;
  input_.emplace(kMaxRequestBytes);
}

void FakeQemu::Kill() {
  MutexLock lock(mutex_);
  listener_.Reset();
  CloseClient();
  Reset();
  Wake();
}

void FakeQemu::Reset() {
  devices_ = command_line_;
  chardevs_.clear();
  unplugging_.clear();
}

void FakeQemu::Start() {
  MutexLock lock(mutex_);
  if (!listener_) Listen();
  Wake();
}

void FakeQemu::DropClient() {
  MutexLock lock(mutex_);
  CloseClient();
  Wake();
}

void FakeQemu::Run() {
  while (true) {
    pollfd fds[2] = {{wake_.get(), POLLIN, 0}, {-1, POLLIN, 0}};
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
      fds[1].fd = client_ ? client_.get() : listener_.get();
    }
    ::poll(fds, 2, -1);
    uint64_t count;
    [[maybe_unused]] ssize_t size = ::read(wake_.get(), &count, sizeof(count));
    std::vector<Json> requests;
    if (fds[1].revents != 0) requests = ReceiveOrAccept(fds[1].fd);
    for (const Json& request : requests) Take(request);
  }
}

std::vector<Json> FakeQemu::ReceiveOrAccept(int fd) {
  MutexLock lock(mutex_);
  if (client_ && fd == client_.get()) return Receive();
  if (!listener_ || fd != listener_.get()) return {};
  // The accepting call must not block, because the polled descriptor may have been reused.
  client_.Reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!client_) return {};
  // Setting the option fails for Unix sockets, which have no Nagle delay.
  const int on = 1;
  ::setsockopt(client_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ++connections_;
  if (greets_) {
    Send({{"QMP",
           {{"version",
             {{"qemu",
               {{"major", version_.major_version},
                {"minor", version_.minor_version},
                {"micro", 0}}}}},
            {"capabilities", Json::array({"oob"})}}}});
  }
  return {};
}

std::vector<Json> FakeQemu::Receive() {
  std::vector<Json> requests;
  std::span<char> room = input_->Prepare(kReceiveBytes);
  const ssize_t count = ::recv(client_.get(), room.data(), room.size(), MSG_DONTWAIT);
  if (count <= 0) {
    CloseClient();
    return requests;
  }
  input_->Commit(static_cast<size_t>(count));
  std::string_view text;
  while (input_->Next(text) == jsonrpc::Splitter::Outcome::kValue) {
    requests.push_back(Json::parse(text));
  }
  return requests;
}

void FakeQemu::Take(const Json& request) {
  FaultPlan plan;
  {
    MutexLock lock(mutex_);
    if (!client_) return;  // sent by the previous client
    if (negotiated_) plan = fault_plan_;
  }
  const Fault fault = plan ? plan(request["execute"]) : Fault::kNone;
  MutexLock lock(mutex_);
  if (client_) Answer(request, fault);
}

void FakeQemu::Answer(const Json& request, Fault fault) {
  const std::string name = request["execute"];
  if (fault == Fault::kDropCall) return CloseClient();
  Reply reply;
  if (!negotiated_) {
    negotiated_ = name == "qmp_capabilities";
    reply.answer = {{"return", Json::object()}};
  } else {
    commands_.push_back(name);
    reply = fault == Fault::kRefuse ? Reply{.answer = Failure("refused by a test")}
                                    : Execute(name, request.value("arguments", Json::object()));
  }
  if (fault == Fault::kLoseAnswer) return CloseClient();
  for (const Json& event : reply.before) Send(event);
  if (name != swallowed_ && fault != Fault::kHang) {
    reply.answer["id"] = request["id"];
    Send(reply.answer);
  }
  for (const Json& event : reply.after) Send(event);
}

void FakeQemu::Send(const Json& message) {
  if (!client_) return;
  const std::string text = message.dump() + "\r\n";
  [[maybe_unused]] ssize_t sent = ::send(client_.get(), text.data(), text.size(), MSG_NOSIGNAL);
}

void FakeQemu::SetGuest(Guest guest) {
  MutexLock lock(mutex_);
  guest_ = guest;
}

void FakeQemu::Refuse(std::string_view command, std::string_view description) {
  MutexLock lock(mutex_);
  if (description.empty()) {
    refused_.erase(std::string(command));
  } else {
    refused_[std::string(command)] = description;
  }
}

void FakeQemu::Swallow(std::string_view command) {
  MutexLock lock(mutex_);
  swallowed_ = command;
}

void FakeQemu::SetFaultPlan(FaultPlan plan) {
  MutexLock lock(mutex_);
  fault_plan_ = std::move(plan);
}

void FakeQemu::SetCommandLine(std::map<std::string, Json> devices) {
  MutexLock lock(mutex_);
  command_line_ = std::move(devices);
  Reset();
}

void FakeQemu::SetGreets(bool greets) {
  MutexLock lock(mutex_);
  greets_ = greets;
}

void FakeQemu::SetBooted(bool booted) {
  MutexLock lock(mutex_);
  booted_ = booted;
}

void FakeQemu::SetVersion(int major, int minor) {
  MutexLock lock(mutex_);
  version_ = {major, minor};
}

void FakeQemu::SetUuid(std::string uuid) {
  MutexLock lock(mutex_);
  uuid_ = std::move(uuid);
}

void FakeQemu::SetConnected(bool connected) {
  MutexLock lock(mutex_);
  connected_ = connected;
}

void FakeQemu::AddChardevByHand(const std::string& id, const std::string& path) {
  MutexLock lock(mutex_);
  const Json address{{"type", "unix"}, {"data", {{"path", path}}}};
  chardevs_[id] = {{"id", id}, {"backend", {{"type", "socket"}, {"data", {{"addr", address}}}}}};
}

void FakeQemu::AddDeviceByHand(const Json& arguments) {
  MutexLock lock(mutex_);
  devices_[arguments["id"].get<std::string>()] = arguments;
}

void FakeQemu::SetDeviceParts(std::vector<std::string> names) {
  MutexLock lock(mutex_);
  device_parts_ = std::move(names);
}

std::map<std::string, Json> FakeQemu::devices() const {
  MutexLock lock(mutex_);
  return devices_;
}

std::map<std::string, Json> FakeQemu::chardevs() const {
  MutexLock lock(mutex_);
  return chardevs_;
}

void FakeQemu::RemoveByHand(const std::string& id) {
  MutexLock lock(mutex_);
  devices_.erase(id);
}

bool FakeQemu::HasDevice(const std::string& id) const {
  MutexLock lock(mutex_);
  return devices_.contains(id);
}

std::vector<std::string> FakeQemu::commands() const {
  MutexLock lock(mutex_);
  return commands_;
}

int FakeQemu::connections() const {
  MutexLock lock(mutex_);
  return connections_;
}

bool FakeQemu::has_client() const {
  MutexLock lock(mutex_);
  return client_.valid();
}

}  // namespace sma::qmp
