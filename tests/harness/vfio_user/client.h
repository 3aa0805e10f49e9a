// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "harness/vhost_user/guest_ram.h"
#include "storage_target/vfio_user/protocol.h"

namespace sma::harness {

namespace vfio_user = storage_target::vfio_user;

/// The client (VMM) side of a vfio-user connection, one message at a time. No call waits longer
/// than kTimeout. Failures are reported as false or nullopt.
class VfioUserClient {
 public:
  static constexpr std::chrono::seconds kTimeout{10};

  struct Message {
    vfio_user::Header header;
    std::vector<std::byte> payload;
    std::vector<base::UniqueFd> fds;
    bool ok() const { return (header.flags & vfio_user::kError) == 0; }
    template <typename T>
    T As() const {
      T value{};
      if (payload.size() >= sizeof value) std::memcpy(&value, payload.data(), sizeof value);
      return value;
    }
  };

  /// Retries until a server listens at `path`.
  bool Connect(const std::string& path);
  void Disconnect() { socket_.Reset(); }
  int fd() const { return socket_.get(); }

  bool Send(vfio_user::Command command, std::span<const std::byte> payload,
            std::span<const int> fds = {}, uint32_t flags = 0);
  bool SendBytes(std::span<const std::byte> bytes, std::span<const int> fds = {});
  std::optional<Message> Receive();
  /// Sets the handler of the server's own commands. They are read while Ask waits for a reply, and
  /// by ServeRequests, which does not wait.
  void SetRequestHandler(std::function<void(const Message&)> handler) {
    on_request_ = std::move(handler);
  }
  void ServeRequests();
  /// Replies to a command from the server.
  bool Reply(const vfio_user::Header& command, std::span<const std::byte> payload,
             uint32_t error = 0);
  /// Waits until the server closes the connection; returns true if it does.
  bool WaitClosed();
  /// Sends a command and returns the reply, which may be an error.
  std::optional<Message> Ask(vfio_user::Command command, std::span<const std::byte> payload = {},
                             std::span<const int> fds = {});
  /// Returns the errno value of the reply, 0 if it is not an error; -1 if there was no reply.
  int Do(vfio_user::Command command, std::span<const std::byte> payload = {},
         std::span<const int> fds = {});
  template <typename T>
  std::optional<Message> AskWith(vfio_user::Command command, const T& payload,
                                 std::span<const int> fds = {}) {
    return Ask(command, std::as_bytes(std::span(&payload, 1)), fds);
  }
  template <typename T>
  int DoWith(vfio_user::Command command, const T& payload, std::span<const int> fds = {}) {
    return Do(command, std::as_bytes(std::span(&payload, 1)), fds);
  }

  bool Negotiate(const std::string& capabilities = R"({"capabilities":{"max_msg_fds":8}})");
  /// Maps the memory at its guest addresses.
  int Map(const GuestRam& ram, uint32_t flags = vfio_user::kDmaReadable | vfio_user::kDmaWritable);
  int Unmap(uint64_t address, uint64_t size_bytes);

  std::optional<std::vector<std::byte>> ReadRegion(uint32_t region, uint64_t offset,
                                                   uint32_t count);
  int WriteRegion(uint32_t region, uint64_t offset, std::span<const std::byte> data);
  template <typename T>
  T Read(uint32_t region, uint64_t offset) {
    T value{};
    auto bytes = ReadRegion(region, offset, sizeof value);
    if (bytes && bytes->size() == sizeof value) std::memcpy(&value, bytes->data(), sizeof value);
    return value;
  }
  template <typename T>
  int Write(uint32_t region, uint64_t offset, T value) {
    return WriteRegion(region, offset, std::as_bytes(std::span(&value, 1)));
  }
  /// Like Write, without waiting for a reply.
  bool Post32(uint32_t region, uint64_t offset, uint32_t value);

  /// Assigns eventfds to interrupts of a type, starting at `start`; an empty list removes them.
  int SetEventFds(uint32_t index, uint32_t start, uint32_t count, std::span<const int> fds);
  /// Applies `action`, one of VFIO_IRQ_SET_ACTION_..., to `count` interrupts, without data.
  int ActOnIrqs(uint32_t index, uint32_t start, uint32_t count, uint32_t action);

 private:
  bool ReceiveBytes(std::span<std::byte> bytes, std::vector<base::UniqueFd>& fds);

  base::UniqueFd socket_;
  std::function<void(const Message&)> on_request_;
  uint16_t next_id_ = 1;
};

/// Waits for an eventfd to be signalled and reads it. Returns false if that does not happen in
/// time.
bool WaitEvent(int eventfd, std::chrono::milliseconds timeout = VfioUserClient::kTimeout);

}  // namespace sma::harness
