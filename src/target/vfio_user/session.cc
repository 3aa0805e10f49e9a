#include "target/vfio_user/session.h"

#include <sys/epoll.h>

#include <cerrno>

#include "spdlog/spdlog.h"

namespace sma::target::vfio_user {
namespace {

// After this many messages other work of the reactor comes first.
constexpr int kMessagesPerRound = 64;

}  // namespace

Session::~Session() {
  if (watching_) reactor_.Unwatch(socket_.fd());
}

void Session::Begin() {
  device_.SetMessages(&messages_);
  watching_ = reactor_.Watch(socket_.fd(), EPOLLIN, this) == 0;
  if (!watching_) End("its socket cannot be watched");
}

void Session::OnFdReady(uint32_t events) {
  if ((events & EPOLLIN) == 0) return End("the client is gone");
  Message message;
  for (int i = 0; i < kMessagesPerRound && !ended_ && !waiting_; ++i) {
    switch (socket_.Receive(message)) {
      case MessageSocket::Outcome::kNothing:
        return;
      case MessageSocket::Outcome::kEnded:
        return End("the client is gone, or sent what is no message");
      case MessageSocket::Outcome::kMessage:
        Handle(message);
    }
  }
}

void Session::Handle(Message& message) {
  const uint32_t type = message.header.flags & kTypeMask;
  if (type == kTypeReply && messages_.OnReply(message)) return;
  if (type != kTypeCommand) return End("a reply to nothing");
  if (!negotiated_) {
    if (message.header.command != Command::kVersion || !Negotiate(message))
      End("the version cannot be agreed on");
    return;
  }
  if (!Dispatch(message)) Answer(message.header, {.error = ENOTSUP});
}

// False: there is no such command.
bool Session::Dispatch(Message& message) {
  const Header& header = message.header;
  switch (header.command) {
    case Command::kDmaMap:
      Answer(header, {.error = MapMemory(message)});
      return true;
    case Command::kDmaUnmap:
      UnmapMemory(message);
      return true;
    case Command::kDeviceGetInfo:
      Answer(header, DescribeDevice(message));
      return true;
    case Command::kDeviceGetRegionInfo:
      Answer(header, DescribeRegion(message));
      return true;
    case Command::kDeviceGetIrqInfo:
      Answer(header, DescribeIrq(message));
      return true;
    case Command::kDeviceSetIrqs:
      Answer(header, {.error = SetIrqs(message)});
      return true;
    case Command::kRegionRead:
      Answer(header, ReadRegion(message));
      return true;
    case Command::kRegionWrite:
      Answer(header, WriteRegion(message));
      return true;
    case Command::kRegionWriteMulti:
      Answer(header, WriteMultiple(message));
      return true;
    case Command::kDeviceReset:
      Reset(message);
      return true;
    default:
      return false;
  }
}

void Session::Answer(const Header& command, const Reply& reply) {
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
  if (!sent) End("the client does not read its replies");
}

void Session::BeginWait() {
  waiting_ = true;
  if (watching_) reactor_.ModifyWatch(socket_.fd(), 0);
}

void Session::EndWait(const Header& command, const Reply& reply) {
  waiting_ = false;
  Answer(command, reply);
  if (watching_ && !ended_) reactor_.ModifyWatch(socket_.fd(), EPOLLIN);
}

void Session::End(std::string_view reason) {
  if (std::exchange(ended_, true)) return;
  spdlog::info("{}: session ended: {}", device_.name(), reason);
  if (std::exchange(watching_, false)) reactor_.Unwatch(socket_.fd());
  messages_.Stop();
  // Not from within a message, whose handling goes on.
  reactor_.Post([this] { device_.Reset([this] { FinishEnd(); }); });
}

void Session::FinishEnd() {
  device_.SetMessages(nullptr);
  device_.memory().Clear();
  device_.interrupts().Clear();
  reactor_.Post([on_ended = std::move(on_ended_)] { on_ended(); });
}

}  // namespace sma::target::vfio_user
