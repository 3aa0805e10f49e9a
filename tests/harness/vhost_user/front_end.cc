// SPDX-License-Identifier: Apache-2.0

#include "harness/vhost_user/front_end.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <thread>

#include "base/fd_passing.h"

namespace sma::harness {

using vhost_user::Header;
using vhost_user::Request;

namespace {

// A signal, such as that of a fuzzer's timer, only restarts the wait.
bool WaitReadable(int fd) {
  pollfd waited{.fd = fd, .events = POLLIN, .revents = 0};
  int ready;
  do {
    ready = ::poll(&waited, 1, std::chrono::milliseconds(FrontEnd::kTimeout).count());
  } while (ready < 0 && errno == EINTR);
  return ready == 1;
}

bool ReceiveExactly(int socket, std::span<std::byte> bytes, std::vector<base::UniqueFd>& fds) {
  while (!bytes.empty()) {
    if (!WaitReadable(socket)) return false;
    const ssize_t size = base::ReceiveWithFds(socket, bytes, fds);
    if (size <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(size));
  }
  return true;
}

}  // namespace

vhost_user::MemoryRegionDescription Describe(const GuestRam& ram) {
  return {.guest_address = ram.guest_address(),
          .size_bytes = ram.size_bytes(),
          .user_address = ram.user_address(),
          .mmap_offset = 0};
}

bool FrontEnd::Connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto until = std::chrono::steady_clock::now() + kTimeout;
  while (std::chrono::steady_clock::now() < until) {
    socket_.Reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
      return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

void FrontEnd::Adopt(base::UniqueFd socket) { socket_ = std::move(socket); }

bool FrontEnd::SendBytes(std::span<const std::byte> bytes, std::span<const int> fds) {
  const iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  return base::SendWithFds(socket_.get(), {&part, 1}, fds) == static_cast<ssize_t>(bytes.size());
}

bool FrontEnd::Send(Request request, std::span<const std::byte> payload, std::span<const int> fds,
                    uint32_t flags) {
  const Header header{.request = static_cast<uint32_t>(request),
                      .flags = Header::kVersion | flags,
                      .payload_bytes = static_cast<uint32_t>(payload.size())};
  std::vector<std::byte> bytes(sizeof header + payload.size());
  std::memcpy(bytes.data(), &header, sizeof header);
  std::ranges::copy(payload, bytes.begin() + sizeof header);
  return SendBytes(bytes, fds);
}

std::optional<FrontEnd::Message> FrontEnd::Receive() {
  Message message;
  std::span<std::byte> header(reinterpret_cast<std::byte*>(&message.header), sizeof(Header));
  if (!ReceiveExactly(socket_.get(), header, message.fds)) return std::nullopt;
  message.payload.resize(message.header.payload_bytes);
  if (!ReceiveExactly(socket_.get(), message.payload, message.fds)) return std::nullopt;
  return message;
}

bool FrontEnd::WaitClosed() {
  std::byte byte;
  while (WaitReadable(socket_.get())) {
    const ssize_t size = ::recv(socket_.get(), &byte, 1, 0);
    if (size <= 0) return size == 0 || errno == ECONNRESET;
  }
  return false;
}

std::optional<FrontEnd::Message> FrontEnd::Ask(Request request, std::span<const std::byte> payload,
                                               std::span<const int> fds) {
  if (!Send(request, payload, fds)) return std::nullopt;
  std::optional<Message> reply = Receive();
  if (!reply || reply->header.request != static_cast<uint32_t>(request) ||
      reply->header.flags != (Header::kVersion | Header::kReply)) {
    return std::nullopt;
  }
  return reply;
}

std::optional<uint64_t> FrontEnd::AskNumber(Request request) {
  std::optional<Message> reply = Ask(request);
  uint64_t number = 0;
  if (!reply || reply->payload.size() != sizeof number) return std::nullopt;
  std::memcpy(&number, reply->payload.data(), sizeof number);
  return number;
}

bool FrontEnd::Do(Request request, std::span<const std::byte> payload, std::span<const int> fds) {
  if (!Send(request, payload, fds, Header::kNeedReply)) return false;
  std::optional<Message> reply = Receive();
  uint64_t number = 1;
  if (!reply || reply->payload.size() != sizeof number) return false;
  std::memcpy(&number, reply->payload.data(), sizeof number);
  return number == 0;
}

bool FrontEnd::Negotiate(uint64_t without) {
  std::optional<uint64_t> offered = AskNumber(Request::kGetFeatures);
  std::optional<uint64_t> protocol = AskNumber(Request::kGetProtocolFeatures);
  if (!offered || !protocol) return false;
  // Sent without requesting an acknowledgement, which this message itself enables.
  if (!Send(Request::kSetProtocolFeatures, std::as_bytes(std::span(&*protocol, 1)))) return false;
  features_ = *offered & ~without;
  return Do(Request::kSetOwner) && DoWith(Request::kSetFeatures, features_);
}

bool FrontEnd::SetMemTable(std::span<GuestRam* const> rams) {
  vhost_user::MemoryTable table{};
  std::vector<int> fds;
  for (const GuestRam* ram : rams) {
    table.regions[table.region_count++] = Describe(*ram);
    fds.push_back(ram->fd());
  }
  const size_t size = vhost_user::kMemoryTableHeaderBytes +
                      table.region_count * sizeof(vhost_user::MemoryRegionDescription);
  return Do(Request::kSetMemTable, std::as_bytes(std::span(&table, 1)).first(size), fds);
}

bool FrontEnd::AddMemReg(const GuestRam& ram) {
  const int fd = ram.fd();
  return DoWith(Request::kAddMemReg,
                vhost_user::SingleMemoryRegion{.padding = 0, .region = Describe(ram)},
                std::span(&fd, 1));
}

bool FrontEnd::RemMemReg(const GuestRam& ram) {
  return DoWith(Request::kRemMemReg,
                vhost_user::SingleMemoryRegion{.padding = 0, .region = Describe(ram)});
}

std::optional<FrontEnd::InflightBuffer> FrontEnd::GetInflight(uint16_t queue_count,
                                                              uint16_t queue_size) {
  InflightBuffer buffer;
  buffer.description.queue_count = queue_count;
  buffer.description.queue_size = queue_size;
  std::optional<Message> reply =
      Ask(Request::kGetInflightFd, std::as_bytes(std::span(&buffer.description, 1)));
  if (!reply || reply->fds.size() != 1 || reply->payload.size() != sizeof buffer.description) {
    return std::nullopt;
  }
  std::memcpy(&buffer.description, reply->payload.data(), sizeof buffer.description);
  buffer.fd = std::move(reply->fds.front());
  return buffer;
}

bool FrontEnd::SetInflight(const InflightBuffer& buffer) {
  const int fd = buffer.fd.get();
  return DoWith(Request::kSetInflightFd, buffer.description, std::span(&fd, 1));
}

bool FrontEnd::SetVringFd(Request request, uint16_t index, int fd) {
  const uint64_t payload = fd < 0 ? index | vhost_user::kVringNoFd : index;
  return DoWith(request, payload, fd < 0 ? std::span<const int>() : std::span<const int>(&fd, 1));
}

bool FrontEnd::StartVring(uint16_t index, const RingDriver& driver, const GuestRam& ram,
                          uint32_t base, int kick_fd, int call_fd) {
  const vhost_user::VringAddr addresses{.index = index,
                                        .flags = 0,
                                        .descriptors = ram.ToUser(driver.descriptors_address()),
                                        .used = ram.ToUser(driver.used_address()),
                                        .available = ram.ToUser(driver.available_address()),
                                        .log = 0};
  return DoWith(Request::kSetVringNum, vhost_user::VringState{index, driver.size()}) &&
         DoWith(Request::kSetVringBase, vhost_user::VringState{index, base}) &&
         DoWith(Request::kSetVringAddr, addresses) &&
         SetVringFd(Request::kSetVringCall, index, call_fd) &&
         SetVringFd(Request::kSetVringKick, index, kick_fd) &&
         DoWith(Request::kSetVringEnable, vhost_user::VringState{index, 1});
}

std::optional<uint32_t> FrontEnd::StopVring(uint16_t index) {
  const vhost_user::VringState state{index, 0};
  std::optional<Message> reply = Ask(Request::kGetVringBase, std::as_bytes(std::span(&state, 1)));
  vhost_user::VringState answer{};
  if (!reply || reply->payload.size() != sizeof answer) return std::nullopt;
  std::memcpy(&answer, reply->payload.data(), sizeof answer);
  return answer.number;
}

}  // namespace sma::harness
