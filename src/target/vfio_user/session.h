#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>

#include "base/unique_fd.h"
#include "target/reactor/reactor.h"
#include "target/vfio_user/device.h"
#include "target/vfio_user/message_socket.h"
#include "target/vfio_user/version.h"

namespace sma::target::vfio_user {

/// One connected client (a VMM): does what its messages say, one after another, until it goes. The
/// device is reset then. Belongs to one reactor. A message that makes no sense is answered with an
/// error; one whose form is broken ends the session.
class Session final : private FdHandler {
 public:
  /// `on_ended` runs once, when the client is gone and the device is reset; it may destroy the
  /// session.
  Session(Reactor& reactor, Device& device, base::UniqueFd socket, std::function<void()> on_ended)
      : reactor_(reactor),
        device_(device),
        socket_(std::move(socket)),
        on_ended_(std::move(on_ended)),
        messages_(socket_, device_.memory(), [this] { End("the client takes no messages"); }) {}
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Begins to read messages. To be called once.
  void Begin();
  /// Ends the session, later. Again: nothing.
  void End(std::string_view reason);

 private:
  // What came of a command: 0 and a reply, or an errno value.
  struct Reply {
    int error = 0;
    std::span<const std::byte> first{};
    std::span<const std::byte> second{};
    int fd = -1;
  };

  void OnFdReady(uint32_t events) override;
  void Handle(Message& message);
  bool Dispatch(Message& message);
  void Answer(const Header& command, const Reply& reply);
  void FinishEnd();

  // Commands that are answered later: no message is read until then.
  void BeginWait();
  void EndWait(const Header& command, const Reply& reply);

  // session_commands.cc: each takes a payload that came from the client.
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
  bool waiting_ = false;  // for the device, with a command
  bool ended_ = false;
  // The payload of the reply in the making; the largest is a whole region.
  static constexpr size_t kMaxReplyBytes = sizeof(RegionAccess) + 16384;
  alignas(8) std::array<std::byte, kMaxReplyBytes> reply_;
};

}  // namespace sma::target::vfio_user
