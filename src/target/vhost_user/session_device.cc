// Messages about the device as a whole.

#include <algorithm>
#include <utility>

#include "target/vhost_user/session.h"

namespace sma::target::vhost_user {
namespace {

constexpr uint64_t kProtocolFeatures =
    Bit(ProtocolFeature::kMq) | Bit(ProtocolFeature::kReplyAck) |
    Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kConfig) |
    Bit(ProtocolFeature::kInflightShmfd) | Bit(ProtocolFeature::kResetDevice) |
    Bit(ProtocolFeature::kConfigureMemSlots);

// In SET_CONFIG: the destination of a migration sets read-only fields as well.
constexpr uint32_t kConfigMigration = 1;

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
  ChangeStopped(AllVrings(), [this, features] {
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

// Deprecated; as its specification recommends, it disables the rings.
void Session::ResetOwner() {
  ChangeStopped(AllVrings(), [this] {
    for (Vring* vring : AllVrings()) vring->SetEnabled(false);
    Acknowledge();
  });
}

void Session::ResetDevice() {
  ChangeStopped(AllVrings(), [this] {
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

// No field is the driver's to write.
void Session::SetConfig() {
  if ((message_.As<ConfigSpace>().flags & kConfigMigration) != 0) {
    Acknowledge();
  } else {
    Refuse("the configuration space is read-only");
  }
}

void Session::SetBackendReqFd() {
  backend_requests_.emplace(std::move(message_.fds.front()));
  Acknowledge();
}

}  // namespace sma::target::vhost_user
