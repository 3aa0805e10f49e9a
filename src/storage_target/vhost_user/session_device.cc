// SPDX-License-Identifier: Apache-2.0

// Handlers of messages about the whole device.

#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "storage_target/vhost_user/session.h"

namespace sma::storage_target::vhost_user {
namespace {

constexpr uint64_t kProtocolFeatures =
    Bit(ProtocolFeature::kMq) | Bit(ProtocolFeature::kReplyAck) |
    Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kConfig) |
    Bit(ProtocolFeature::kInflightShmfd) | Bit(ProtocolFeature::kResetDevice) |
    Bit(ProtocolFeature::kConfigureMemSlots);

// A flag of SET_CONFIG: the destination of a migration also sets read-only fields.
constexpr uint32_t kConfigMigration = 1;

bool IsUnixStream(int fd) {
  const auto option = [fd](int name) {
    int value = -1;
    socklen_t size_bytes = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, name, &value, &size_bytes) == 0 ? value : -1;
  };
  return option(SO_DOMAIN) == AF_UNIX && option(SO_TYPE) == SOCK_STREAM;
}

}  // namespace

void Session::GetFeatures() {
  ReplyNumber(owner_.device().features | Bit(kFeatureProtocolFeatures));
}

void Session::SetFeatures() {
  const auto features = message_.As<uint64_t>();
  if ((features & ~(owner_.device().features | Bit(kFeatureProtocolFeatures))) != 0) {
    Refuse("a feature that was not offered");
    return;
  }
  ChangeWhileStopped(AllVrings(), [this, features] {
    environment_.features = features;
    Acknowledge();
  });
}

void Session::GetProtocolFeatures() { ReplyNumber(kProtocolFeatures); }

void Session::SetProtocolFeatures() {
  const auto features = message_.As<uint64_t>();
  if ((features & ~kProtocolFeatures) != 0) {
    Refuse("a feature that was not offered");
    return;
  }
  protocol_features_ = features;
  Acknowledge();
}

void Session::SetOwner() { Acknowledge(); }

// RESET_OWNER is deprecated; as the specification recommends, it disables the rings.
void Session::ResetOwner() {
  ChangeWhileStopped(AllVrings(), [this] {
    for (Vring* vring : AllVrings()) vring->SetEnabled(false);
    Acknowledge();
  });
}

void Session::ResetDevice() {
  ChangeWhileStopped(AllVrings(), [this] {
    for (Vring* vring : AllVrings()) vring->Reset();
    environment_.inflight.reset();
    Acknowledge();
  });
}

void Session::GetQueueNum() { ReplyNumber(kMaxQueues); }

void Session::GetConfig() {
  auto space = message_.As<ConfigSpace>();
  const std::span<const std::byte> config = owner_.device().config_bytes();
  for (size_t i = 0; i < space.size_bytes; ++i) {
    const size_t at = space.offset + i;
    space.bytes[i] = at < config.size() ? config[at] : std::byte{0};
  }
  Reply(std::as_bytes(std::span(&space, 1)).first(kConfigHeaderBytes + space.size_bytes));
}

// The driver must not write any field.
void Session::SetConfig() {
  if ((message_.As<ConfigSpace>().flags & kConfigMigration) != 0) {
    Acknowledge();
  } else {
    Refuse("the configuration space is read-only");
  }
}

// The front end may keep a copy of the socket and use it at the same time. Only sends to Unix
// sockets never wait for that.
void Session::SetBackendReqFd() {
  if (!IsUnixStream(message_.fds.front().get())) return Refuse("not a Unix stream socket");
  backend_requests_.emplace(message_.fds.front().Take());
  Acknowledge();
}

}  // namespace sma::storage_target::vhost_user
