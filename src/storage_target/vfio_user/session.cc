// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vfio_user/session.h"

#include <sys/epoll.h>

#include <cerrno>

#include "base/peer_log.h"
#include "spdlog/spdlog.h"

namespace sma::storage_target::vfio_user {
namespace {

// After this many messages, the reactor does other work.
constexpr int kMessagesPerRound = 64;

}  // namespace

Session::~Session() {
  if (watching_) reactor_.Unwatch(socket_.fd());
}

void Session::Begin() {
  device_.SetMessages(&messages_);
  watching_ = reactor_.Watch(socket_.fd(), EPOLLIN, this) == 0;
  if (!watching_) End("the socket cannot be watched");
}

void Session::OnFdReady(uint32_t events) {
  if ((events & EPOLLIN) == 0) return End("the client closed the connection");
  Message message;
  for (int i = 0; i < kMessagesPerRound && !ended_ && !waiting_; ++i) {
    switch (socket_.Receive(message)) {
      case MessageSocket::Outcome::kNothing:
        return;
      case MessageSocket::Outcome::kEnded:
        return End("the client closed the connection or sent an invalid message");
      case MessageSocket::Outcome::kMessage:
        Handle(message);
    }
  }
}

void Session::Handle(Message& message) {
  const uint32_t type = message.header.flags & kTypeMask;
  if (type == kTypeReply && messages_.OnReply(message)) return;
  if (type != kTypeCommand) return End("a reply without a request");
  if (!negotiated_) {
    if (message.header.command != Command::kVersion || !Negotiate(message))
      End("no common protocol version");
    return;
  }
  if (!Dispatch(message)) SendReply(message.header, {.error = ENOTSUP});
}

// Returns false if the command is unknown.
bool Session::Dispatch(Message& message) {
  const Header& header = message.header;
  switch (header.command) {
    case Command::kDmaMap:
      SendReply(header, {.error = MapMemory(message)});
      return true;
    case Command::kDmaUnmap:
      UnmapMemory(message);
      return true;
    case Command::kDeviceGetInfo:
      SendReply(header, DescribeDevice(message));
      return true;
    case Command::kDeviceGetRegionInfo:
      SendReply(header, DescribeRegion(message));
      return true;
    case Command::kDeviceGetIrqInfo:
      SendReply(header, DescribeIrq(message));
      return true;
    case Command::kDeviceSetIrqs:
      SendReply(header, {.error = SetIrqs(message)});
      return true;
    case Command::kRegionRead:
      SendReply(header, ReadRegion(message));
      return true;
    case Command::kRegionWrite:
      SendReply(header, WriteRegion(message));
      return true;
    case Command::kRegionWriteMulti:
      SendReply(header, WriteMultiple(message));
      return true;
    case Command::kDeviceReset:
      Reset(message);
      return true;
    default:
      return false;
  }
}

void Session::SendReply(const Header& command, const Reply& reply) {
  if (ended_ || (command.flags & kNoReply) != 0) return;
  Header header;
  header.message_id = command.message_id;
  header.command = command.command;
  header.flags = kTypeReply;
  bool sent;
  if (reply.error == 0) {
    header.message_bytes =
        static_cast<uint32_t>(sizeof header + reply.first.size() + reply.second.size());
    sent = socket_.Send(header, reply.first, reply.second, reply.fd);
  } else {
    header.flags |= kError;
    header.error = static_cast<uint32_t>(reply.error);
    header.message_bytes = sizeof header;
    sent = socket_.Send(header, {});
  }
  if (!sent) End("the client does not read replies");
}

void Session::BeginWait() {
  waiting_ = true;
  if (watching_) reactor_.ModifyWatch(socket_.fd(), 0);
}

void Session::EndWait(const Header& command, const Reply& reply) {
  waiting_ = false;
  SendReply(command, reply);
  if (watching_ && !ended_) reactor_.ModifyWatch(socket_.fd(), EPOLLIN);
}

void Session::End(std::string_view reason) {
  if (std::exchange(ended_, true)) return;
  base::LogOfPeers().Log(spdlog::level::info, device_.name(), "{}: session ended: {}",
                         device_.name(), reason);
  if (std::exchange(watching_, false)) reactor_.Unwatch(socket_.fd());
  messages_.Stop();
  // This is posted, because End may be called while a message is being handled.
  reactor_.Post([this] { device_.Reset([this] { FinishEnd(); }); });
}

void Session::FinishEnd() {
  device_.SetMessages(nullptr);
  device_.memory().Clear();
  device_.interrupts().Clear();
  reactor_.Post([on_ended = std::move(on_ended_)] { on_ended(); });
}

}  // namespace sma::storage_target::vfio_user
