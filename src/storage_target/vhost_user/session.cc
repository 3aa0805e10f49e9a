// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vhost_user/session.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "base/peer_log.h"

namespace sma::storage_target::vhost_user {
namespace {

// After this many messages, the reactor does other work.
constexpr int kMessagesPerRound = 64;

}  // namespace

Session::Session(SessionOwner& owner, Reactor& control, uint32_t id, base::UniqueFd socket)
    : owner_(owner), control_(control), id_(id), connection_(std::move(socket)) {
  environment_.memory = std::make_shared<const virtio::GuestMemory>();
  environment_.notifier = owner_.notifier();
  environment_.front_end_socket = connection_.fd();
}

Session::~Session() = default;

void Session::Begin() {
  base::LogOfPeers().Log(spdlog::level::info, owner_.name(), "vhost {}: front end {} connected",
                         owner_.name(), id_);
  const int error = control_.Watch(connection_.fd(), EPOLLIN, this);
  if (error != 0) return End(strerror(-error));
  watching_ = reading_ = true;
}

// The end of the connection (EPOLLHUP) is reported even while no messages are read.
void Session::SetReading(bool reading) {
  if (reading == reading_) return;
  reading_ = reading;
  control_.ModifyWatch(connection_.fd(), reading ? uint32_t{EPOLLIN} : 0);
}

void Session::OnFdReady(uint32_t events) {
  // The session ends even if earlier messages are unread, since the next front end must not be
  // accepted while they are being read.
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) return End("the connection was closed");
  for (int i = 0; i < kMessagesPerRound && reading_; ++i) {
    switch (connection_.Receive(message_)) {
      case Connection::Outcome::kMessage:
        Handle();
        break;
      case Connection::Outcome::kNothing:
        return;
      case Connection::Outcome::kEnded:
        End("the front end closed the connection");
        return;
    }
  }
}

void Session::Handle() {
  if (std::string_view error = FindFormError(message_); !error.empty()) {
    End(fmt::format("{}: {}", RequestName(message_.request()), error));
    return;
  }
  if (Method method = FindMethod(message_.request()); method != nullptr) {
    (this->*method)();
  } else {
    Refuse(fmt::format("unknown request {}", message_.header.request));
  }
}

Session::Method Session::FindMethod(Request request) {
  static constexpr std::pair<Request, Method> kMethods[] = {
      {Request::kGetFeatures, &Session::GetFeatures},
      {Request::kSetFeatures, &Session::SetFeatures},
      {Request::kSetOwner, &Session::SetOwner},
      {Request::kResetOwner, &Session::ResetOwner},
      {Request::kSetMemTable, &Session::SetMemTable},
      {Request::kSetVringNum, &Session::SetVringNum},
      {Request::kSetVringAddr, &Session::SetVringAddr},
      {Request::kSetVringBase, &Session::SetVringBase},
      {Request::kGetVringBase, &Session::GetVringBase},
      {Request::kSetVringKick, &Session::SetVringKick},
      {Request::kSetVringCall, &Session::SetVringCall},
      {Request::kSetVringErr, &Session::SetVringErr},
      {Request::kGetProtocolFeatures, &Session::GetProtocolFeatures},
      {Request::kSetProtocolFeatures, &Session::SetProtocolFeatures},
      {Request::kGetQueueNum, &Session::GetQueueNum},
      {Request::kSetVringEnable, &Session::SetVringEnable},
      {Request::kSetBackendReqFd, &Session::SetBackendReqFd},
      {Request::kGetConfig, &Session::GetConfig},
      {Request::kSetConfig, &Session::SetConfig},
      {Request::kGetInflightFd, &Session::GetInflightFd},
      {Request::kSetInflightFd, &Session::SetInflightFd},
      {Request::kResetDevice, &Session::ResetDevice},
      {Request::kGetMaxMemSlots, &Session::GetMaxMemSlots},
      {Request::kAddMemReg, &Session::AddMemReg},
      {Request::kRemMemReg, &Session::RemMemReg},
  };
  const auto* found = std::ranges::find(kMethods, request, &std::pair<Request, Method>::first);
  return found == std::end(kMethods) ? nullptr : found->second;
}

void Session::Acknowledge() {
  if (message_.wants_reply() && Has(ProtocolFeature::kReplyAck)) ReplyNumber(0);
}

void Session::Refuse(std::string_view reason) {
  const std::string text = fmt::format("{}: {}", RequestName(message_.request()), reason);
  if (!message_.wants_reply() || !Has(ProtocolFeature::kReplyAck)) {
    End(text);
    return;
  }
  base::LogOfPeers().Log(spdlog::level::warn, owner_.name(), "vhost {}: front end {}: refused {}",
                         owner_.name(), id_, text);
  ReplyNumber(1);
}

void Session::ReplyNumber(uint64_t number) {
  Reply(std::as_bytes(std::span<const uint64_t, 1>(&number, 1)));
}

void Session::Reply(std::span<const std::byte> payload, int fd) {
  const Header header{.request = message_.header.request,
                      .flags = Header::kVersion | Header::kReply,
                      .payload_bytes = static_cast<uint32_t>(payload.size())};
  if (!connection_.Send(header, payload, fd)) End("the front end does not read replies");
}

void Session::End(std::string_view reason) {
  if (std::exchange(ended_, true)) return;
  base::LogOfPeers().Log(spdlog::level::info, owner_.name(),
                         "vhost {}: front end {} disconnected: {}", owner_.name(), id_, reason);
  reading_ = false;
  if (std::exchange(watching_, false)) control_.Unwatch(connection_.fd());
  StopThen(AllVrings(), [this] { control_.Post([this] { owner_.OnSessionEnded(*this); }); });
  for (const auto& vring : vrings_) vring->AbortRequests();
}

std::vector<Vring*> Session::AllVrings() const {
  std::vector<Vring*> vrings;
  for (const auto& vring : vrings_) vrings.push_back(vring.get());
  return vrings;
}

// Vrings may already be stopping for a change of configuration when the session ends: in that case
// `then` replaces the earlier callback.
void Session::StopThen(const std::vector<Vring*>& vrings, std::function<void()> then) {
  when_stopped_ = std::move(then);
  ++stopping_;
  for (Vring* vring : vrings) {
    if (!vring->running()) continue;
    ++stopping_;
    vring->Stop([this] { OnVringStopped(); });
  }
  OnVringStopped();
}

void Session::OnVringStopped() {
  if (--stopping_ == 0) std::exchange(when_stopped_, nullptr)();
}

void Session::ChangeWhileStopped(const std::vector<Vring*>& vrings, std::function<void()> change) {
  SetReading(false);
  StopThen(vrings, [this, change = std::move(change)] {
    change();
    if (ended_) return;
    StartReadyVrings();
    SetReading(true);
  });
}

// Without VHOST_USER_F_PROTOCOL_FEATURES, vrings are enabled from the start (vhost-user "Ring
// states").
void Session::StartReadyVrings() {
  const bool enabled = (environment_.features & Bit(kFeatureProtocolFeatures)) == 0;
  environment_.descriptor = owner_.descriptor();
  for (size_t i = 0; i < vrings_.size(); ++i) {
    Vring& vring = *vrings_[i];
    if (!vring.ready(enabled)) continue;
    int error = vring.Start(environment_, owner_.device(), [this, i](const std::string& reason) {
      base::LogOfPeers().Log(spdlog::level::warn, owner_.name(),
                             "vhost {}: front end {}: vring {} is broken: {}", owner_.name(), id_,
                             i, reason);
      if (environment_.notifier->blocked()) owner_.OnBlockedWrite();
    });
    if (error != 0) {
      base::LogOfPeers().Log(spdlog::level::warn, owner_.name(),
                             "vhost {}: front end {}: vring {} cannot start: {}", owner_.name(),
                             id_, i, strerror(error));
    }
  }
}

uint32_t Session::running_vrings() const {
  return static_cast<uint32_t>(std::ranges::count_if(vrings_, &Vring::running));
}

uint32_t Session::outstanding_requests() const {
  uint32_t sum = 0;
  for (const auto& vring : vrings_) sum += vring->outstanding_requests();
  return sum;
}

void Session::AttachBdev(bdev::Descriptor& descriptor) {
  for (const auto& vring : vrings_) {
    if (vring->running()) vring->AttachBdev(descriptor);
  }
}

void Session::DetachBdev(std::function<void()> done) {
  auto left = std::make_shared<size_t>(1);
  auto one_less = [left, done = std::move(done)] {
    if (--*left == 0) done();
  };
  for (const auto& vring : vrings_) {
    ++*left;
    vring->DetachBdev(one_less);
  }
  one_less();
}

void Session::NotifyConfigChange() {
  if (!backend_requests_ || !Has(ProtocolFeature::kConfig)) return;
  const Header header{.request = static_cast<uint32_t>(BackendRequest::kConfigChange),
                      .flags = Header::kVersion,
                      .payload_bytes = 0};
  if (!backend_requests_->Send(header, {})) backend_requests_.reset();
}

}  // namespace sma::storage_target::vhost_user
