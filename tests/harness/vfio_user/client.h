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
#include "target/vfio_user/protocol.h"

namespace sma::harness {

namespace vfio_user = target::vfio_user;

/// The client's (a VMM's) side of a vfio-user connection, one message at a time. Nothing waits
/// longer than kTimeout. What fails is false or nullopt.
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

  /// Tries until somebody listens at `path`.
  bool Connect(const std::string& path);
  void Disconnect() { socket_.Reset(); }
  int fd() const { return socket_.get(); }

  bool Send(vfio_user::Command command, std::span<const std::byte> payload,
            std::span<const int> fds = {}, uint32_t flags = 0);
  bool SendBytes(std::span<const std::byte> bytes, std::span<const int> fds = {});
  std::optional<Message> Receive();
  /// What deals with the server's own commands. They are read while Ask waits for a reply, and by
  /// ServeRequests, which does not wait.
  void SetRequestHandler(std::function<void(const Message&)> handler) {
    on_request_ = std::move(handler);
  }
  void ServeRequests();
  /// Answers a command of the server's.
  bool Reply(const vfio_user::Header& command, std::span<const std::byte> payload,
             uint32_t error = 0);
  /// True when the server closed the connection; waits for that.
  bool WaitClosed();
  /// Sends and waits for the reply, whatever it says.
  std::optional<Message> Ask(vfio_user::Command command, std::span<const std::byte> payload = {},
                             std::span<const int> fds = {});
  /// The errno value of the reply, 0 without one; -1 when none came.
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
  /// The memory's guest addresses become the device's.
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
  /// As Write, without waiting for a reply.
  bool Post32(uint32_t region, uint64_t offset, uint32_t value);

  /// Gives eventfds to interrupts of a type from `start` on; none: takes them away.
  int SetEventFds(uint32_t index, uint32_t start, uint32_t count, std::span<const int> fds);
  /// `action`: one of VFIO_IRQ_SET_ACTION_..., for `count` interrupts, without data.
  int ActOnIrqs(uint32_t index, uint32_t start, uint32_t count, uint32_t action);

 private:
  bool ReceiveBytes(std::span<std::byte> bytes, std::vector<base::UniqueFd>& fds);

  base::UniqueFd socket_;
  std::function<void(const Message&)> on_request_;
  uint16_t next_id_ = 1;
};

/// Waits until an eventfd is signalled, and takes the signals. False when none came in time.
bool WaitEvent(int eventfd, std::chrono::milliseconds timeout = VfioUserClient::kTimeout);

}  // namespace sma::harness
