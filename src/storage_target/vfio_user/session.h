// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>

#include "base/unique_fd.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/vfio_user/device.h"
#include "storage_target/vfio_user/message_socket.h"
#include "storage_target/vfio_user/version.h"

namespace sma::storage_target::vfio_user {

/// A connected client (a VMM): executes its messages one after another until it disconnects, then
/// resets the device. Owned by one reactor. An invalid message is answered with an error; a
/// malformed one ends the session.
class Session final : private FdHandler {
 public:
  /// Calls `on_ended` once, when the client has disconnected and the device is reset; it may
  /// destroy the session.
  Session(Reactor& reactor, Device& device, base::UniqueFd socket, std::function<void()> on_ended)
      : reactor_(reactor),
        device_(device),
        socket_(std::move(socket)),
        on_ended_(std::move(on_ended)),
        messages_(socket_, device_.memory(), [this] { End("the client does not read messages"); }) {
  }
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Starts reading messages. Call once.
  void Begin();
  /// Ends the session asynchronously. Idempotent.
  void End(std::string_view reason);

 private:
  // The result of a command: 0 and a reply, or an errno value.
  struct Reply {
    int error = 0;
    std::span<const std::byte> first{};
    std::span<const std::byte> second{};
    int fd = -1;
  };

  void OnFdReady(uint32_t events) override;
  void Handle(Message& message);
  bool Dispatch(Message& message);
  void SendReply(const Header& command, const Reply& reply);
  void FinishEnd();

  // Used for commands with an asynchronous reply: no message is read between BeginWait and EndWait.
  void BeginWait();
  void EndWait(const Header& command, const Reply& reply);

  // Implemented in session_commands.cc. Each function handles the payload of a client's message.
  bool Negotiate(const Message& message);
  int MapMemory(Message& message);
  void UnmapMemory(const Message& message);
  int RemoveMemory(const DmaUnmapRequest& unmap);
  Reply DescribeDevice(const Message& message);
  Reply DescribeRegion(const Message& message);
  Reply DescribeIrq(const Message& message);
  int SetIrqs(Message& message);
  Reply ReadRegion(const Message& message);
  Reply WriteRegion(const Message& message);
  Reply WriteMultiple(const Message& message);
  int Write(const RegionAccess& access, std::span<const std::byte> data);
  bool IsInRegion(const RegionAccess& access) const;
  void Reset(const Message& message);

  template <typename T>
  Reply ReplyWith(const T& value);

  Reactor& reactor_;
  Device& device_;
  MessageSocket socket_;
  std::function<void()> on_ended_;
  DmaMessages messages_;
  ClientCapabilities client_;
  bool negotiated_ = false;
  bool watching_ = false;
  bool waiting_ = false;  // waiting for the device to complete a command
  bool ended_ = false;
  // The payload of the reply that is being built, which is at most the contents of a whole region.
  static constexpr size_t kMaxReplyBytes = sizeof(RegionAccess) + 16384;
  alignas(8) std::array<std::byte, kMaxReplyBytes> reply_;
};

}  // namespace sma::storage_target::vfio_user
