// SPDX-License-Identifier: Apache-2.0

#include "harness/vfio_user/client.h"

#include <linux/vfio.h>
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

using vfio_user::Command;

namespace {

bool WaitReadable(int fd, std::chrono::milliseconds timeout) {
  pollfd poll_fd{fd, POLLIN, 0};
  return ::poll(&poll_fd, 1, static_cast<int>(timeout.count())) == 1;
}

bool IsCommand(const VfioUserClient::Message& message) {
  return (message.header.flags & vfio_user::kTypeMask) == vfio_user::kTypeCommand;
}

}  // namespace

bool VfioUserClient::Connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const auto until = std::chrono::steady_clock::now() + kTimeout;
  while (std::chrono::steady_clock::now() < until) {
    socket_.Reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0)
      return true;
    std::this_thread::yield();
  }
  return false;
}

bool VfioUserClient::SendBytes(std::span<const std::byte> bytes, std::span<const int> fds) {
  const iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  return base::SendWithFds(socket_.get(), {&part, 1}, fds) == static_cast<ssize_t>(bytes.size());
}

bool VfioUserClient::Send(Command command, std::span<const std::byte> payload,
                          std::span<const int> fds, uint32_t flags) {
  vfio_user::Header header;
  header.message_id = next_id_++;
  header.command = command;
  header.message_bytes = static_cast<uint32_t>(sizeof header + payload.size());
  header.flags = flags;
  std::vector<std::byte> bytes(header.message_bytes);
  std::memcpy(bytes.data(), &header, sizeof header);
  if (!payload.empty()) std::memcpy(bytes.data() + sizeof header, payload.data(), payload.size());
  return SendBytes(bytes, fds);
}

bool VfioUserClient::ReceiveBytes(std::span<std::byte> bytes, std::vector<base::UniqueFd>& fds) {
  while (!bytes.empty()) {
    if (!WaitReadable(socket_.get(), kTimeout)) return false;
    const ssize_t size = base::ReceiveWithFds(socket_.get(), bytes, fds);
    if (size <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(size));
  }
  return true;
}

std::optional<VfioUserClient::Message> VfioUserClient::Receive() {
  Message message;
  if (!ReceiveBytes(std::as_writable_bytes(std::span(&message.header, 1)), message.fds))
    return std::nullopt;
  if (message.header.message_bytes < sizeof message.header) return std::nullopt;
  message.payload.resize(message.header.message_bytes - sizeof message.header);
  if (!ReceiveBytes(message.payload, message.fds)) return std::nullopt;
  return message;
}

void VfioUserClient::ServeRequests() {
  while (on_request_ && WaitReadable(socket_.get(), std::chrono::milliseconds(0))) {
    const auto message = Receive();
    if (!message || !IsCommand(*message)) return;
    on_request_(*message);
  }
}

bool VfioUserClient::Reply(const vfio_user::Header& command, std::span<const std::byte> payload,
                           uint32_t error) {
  vfio_user::Header header = command;
  header.message_bytes = static_cast<uint32_t>(sizeof header + payload.size());
  header.flags = vfio_user::kTypeReply | (error != 0 ? vfio_user::kError : 0);
  header.error = error;
  std::vector<std::byte> bytes(header.message_bytes);
  std::memcpy(bytes.data(), &header, sizeof header);
  std::copy(payload.begin(), payload.end(), bytes.begin() + sizeof header);
  return SendBytes(bytes);
}

bool VfioUserClient::WaitClosed() {
  std::byte byte;
  while (WaitReadable(socket_.get(), kTimeout)) {
    if (::recv(socket_.get(), &byte, sizeof byte, 0) <= 0) return true;
  }
  return false;
}

std::optional<VfioUserClient::Message> VfioUserClient::Ask(Command command,
                                                           std::span<const std::byte> payload,
                                                           std::span<const int> fds) {
  const uint16_t id = next_id_;
  if (!Send(command, payload, fds)) return std::nullopt;
  auto reply = Receive();
  while (reply && on_request_ && IsCommand(*reply)) {
    on_request_(*reply);
    reply = Receive();
  }
  const bool fits = reply && reply->header.message_id == id && reply->header.command == command &&
                    (reply->header.flags & vfio_user::kTypeMask) == vfio_user::kTypeReply;
  return fits ? std::move(reply) : std::nullopt;
}

int VfioUserClient::Do(Command command, std::span<const std::byte> payload,
                       std::span<const int> fds) {
  auto reply = Ask(command, payload, fds);
  if (!reply) return -1;
  return reply->ok() ? 0 : static_cast<int>(reply->header.error);
}

bool VfioUserClient::Negotiate(const std::string& capabilities) {
  vfio_user::Version version;
  std::string payload(reinterpret_cast<const char*>(&version), sizeof version);
  payload += capabilities;
  payload.push_back('\0');
  return Do(Command::kVersion, std::as_bytes(std::span(payload))) == 0;
}

int VfioUserClient::Map(const GuestRam& ram, uint32_t flags) {
  vfio_user::DmaMapRequest map;
  map.flags = flags;
  map.address = ram.guest_address();
  map.size_bytes = ram.size_bytes();
  const int fd = ram.fd();
  return DoWith(Command::kDmaMap, map, std::span(&fd, 1));
}

int VfioUserClient::Unmap(uint64_t address, uint64_t size_bytes) {
  vfio_user::DmaUnmapRequest unmap;
  unmap.address = address;
  unmap.size_bytes = size_bytes;
  return DoWith(Command::kDmaUnmap, unmap);
}

std::optional<std::vector<std::byte>> VfioUserClient::ReadRegion(uint32_t region, uint64_t offset,
                                                                 uint32_t count) {
  const vfio_user::RegionAccess access{offset, region, count};
  auto reply = AskWith(Command::kRegionRead, access);
  if (!reply || !reply->ok() || reply->payload.size() != sizeof access + count) return std::nullopt;
  return std::vector(reply->payload.begin() + sizeof access, reply->payload.end());
}

int VfioUserClient::WriteRegion(uint32_t region, uint64_t offset, std::span<const std::byte> data) {
  const vfio_user::RegionAccess access{offset, region, static_cast<uint32_t>(data.size())};
  std::vector<std::byte> payload(sizeof access + data.size());
  std::memcpy(payload.data(), &access, sizeof access);
  std::copy(data.begin(), data.end(), payload.begin() + sizeof access);
  return Do(Command::kRegionWrite, payload);
}

bool VfioUserClient::Post32(uint32_t region, uint64_t offset, uint32_t value) {
  const vfio_user::RegionAccess access{offset, region, sizeof value};
  std::array<std::byte, sizeof access + sizeof value> payload;
  std::memcpy(payload.data(), &access, sizeof access);
  std::memcpy(payload.data() + sizeof access, &value, sizeof value);
  return Send(Command::kRegionWrite, payload, {}, vfio_user::kNoReply);
}

int VfioUserClient::SetEventFds(uint32_t index, uint32_t start, uint32_t count,
                                std::span<const int> fds) {
  vfio_user::IrqSet set;
  set.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
  set.index = index;
  set.start = start;
  set.count = count;
  return DoWith(Command::kDeviceSetIrqs, set, fds);
}

int VfioUserClient::ActOnIrqs(uint32_t index, uint32_t start, uint32_t count, uint32_t action) {
  vfio_user::IrqSet set;
  set.flags = VFIO_IRQ_SET_DATA_NONE | action;
  set.index = index;
  set.start = start;
  set.count = count;
  return DoWith(Command::kDeviceSetIrqs, set);
}

bool WaitEvent(int eventfd, std::chrono::milliseconds timeout) {
  if (!WaitReadable(eventfd, timeout)) return false;
  uint64_t count = 0;
  return ::read(eventfd, &count, sizeof count) == sizeof count;
}

}  // namespace sma::harness
