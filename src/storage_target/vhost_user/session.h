// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "storage_target/bdev/bdev.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/vhost_user/connection.h"
#include "storage_target/vhost_user/message.h"
#include "storage_target/vhost_user/vring.h"
#include "storage_target/virtio/blk_device.h"
#include "storage_target/virtio/guest_memory.h"

namespace sma::storage_target::vhost_user {

class Session;

/// The interface of the device that a session serves. Used only on the control reactor.
class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  virtual const std::string& name() const = 0;
  virtual const virtio::BlkDevice& device() const = 0;
  /// Returns the open bdev; nullptr while there is none.
  virtual bdev::Descriptor* descriptor() const = 0;
  /// Returns the reactor for another vring.
  virtual Reactor& NextReactor() = 0;
  /// Returns what the vrings of all front ends of the device share in `reactor`.
  virtual std::shared_ptr<virtio::GuestTurn> TurnIn(Reactor& reactor) = 0;
  /// Returns the notifier of all front ends of the device, because they trust each other.
  virtual const std::shared_ptr<virtio::PeerNotifier>& notifier() const = 0;
  /// Returns the share in which the mappings of all front ends of the device count.
  virtual const std::shared_ptr<virtio::GuardShare>& guards() const = 0;
  /// Returns the number of eventfds that all front ends of the device have sent.
  virtual size_t eventfd_count() const = 0;
  /// Called when a write to an eventfd of a front end has blocked.
  virtual void OnBlockedWrite() = 0;
  /// Called when `session` has ended and has no outstanding requests, so that it may be destroyed.
  virtual void OnSessionEnded(Session& session) = 0;
};

/// A connected front end: executes its messages one after another until it disconnects. Owned by
/// the control reactor. A malformed message ends the session, and so does a refused message without
/// NEED_REPLY. A guest's error in a ring breaks only that vring.
class Session final : private FdHandler {
 public:
  /// The number of queues in the configuration space of a device.
  static constexpr uint16_t kMaxQueues = 128;

  /// `id` distinguishes the sessions of a program.
  Session(SessionOwner& owner, Reactor& control, uint32_t id, base::UniqueFd socket);
  /// May be called only after SessionOwner::OnSessionEnded.
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Starts reading messages. Must be called once.
  void Begin();
  /// Reads no more messages, stops the vrings and aborts requests that have not reached the medium.
  /// When no request is outstanding, calls SessionOwner::OnSessionEnded, never from within End.
  /// Idempotent.
  void End(std::string_view reason);

  /// Attaches a bdev to the running vrings. Vrings that start later use the owner's.
  void AttachBdev(bdev::Descriptor& descriptor);
  /// Calls `done` when no vring uses the bdev or its descriptor.
  void DetachBdev(std::function<void()> done);
  /// Notifies the front end, if it has requested it, that the configuration space has changed.
  void NotifyConfigChange();

  uint32_t id() const { return id_; }
  /// Returns true once End has been called.
  bool ended() const { return ended_; }
  uint32_t running_vrings() const;
  /// Returns the number of eventfds that the front end has sent.
  size_t eventfd_count() const;
  /// Returns the number of outstanding requests of the running vrings.
  uint32_t outstanding_requests() const;

 private:
  using Method = void (Session::*)();
  static Method FindMethod(Request request);

  void OnFdReady(uint32_t events) override;
  void Handle();
  void SetReading(bool reading);

  // These functions reply to the current message, and may end the session.
  void Acknowledge();
  void Refuse(std::string_view reason);
  void Reply(std::span<const std::byte> payload, int fd = -1);
  void ReplyNumber(uint64_t number);
  bool Has(ProtocolFeature feature) const { return (protocol_features_ & Bit(feature)) != 0; }

  // Stops the running ones of `vrings`, calls `change`, which replies to the message, and starts
  // all vrings that are ready. No message is read in the meantime.
  void ChangeWhileStopped(const std::vector<Vring*>& vrings, std::function<void()> change);
  void StopThen(const std::vector<Vring*>& vrings, std::function<void()> then);
  void OnVringStopped();
  void StartReadyVrings();
  std::vector<Vring*> AllVrings() const;

  // Helpers for the message handlers.
  Vring* FindVring(
      uint64_t index);  // refuses the message and returns nullptr for an index out of range
  // Refuses the message and returns false if it has no eventfd, or one that the device may not
  // keep.
  bool TakeEventFd(const Vring& vring, Vring::EventFdKind kind, base::UniqueFd& eventfd);
  void SetVringEventFd(Vring::EventFdKind kind, void (Vring::*set)(base::UniqueFd));
  void UseMemory(virtio::GuestMemory memory);
  void ChangeVring(Vring& vring, std::function<void()> change);

  // The handlers of the messages with the same names.
  void GetFeatures();
  void SetFeatures();
  void SetOwner();
  void ResetOwner();
  void ResetDevice();
  void GetProtocolFeatures();
  void SetProtocolFeatures();
  void GetQueueNum();
  void GetConfig();
  void SetConfig();
  void SetBackendReqFd();
  void SetMemTable();
  void GetMaxMemSlots();
  void AddMemReg();
  void RemMemReg();
  void GetInflightFd();
  void SetInflightFd();
  void SetVringNum();
  void SetVringAddr();
  void SetVringBase();
  void GetVringBase();
  void SetVringKick();
  void SetVringCall();
  void SetVringErr();
  void SetVringEnable();

  SessionOwner& owner_;
  Reactor& control_;
  const uint32_t id_;
  Connection connection_;
  std::optional<Connection> backend_requests_;
  Message message_;  // the current message
  std::vector<std::unique_ptr<Vring>> vrings_;
  VringEnvironment environment_;
  uint64_t protocol_features_ = 0;
  bool watching_ = false;
  bool reading_ = false;
  bool ended_ = false;
  uint32_t stopping_ =
      0;  // vrings that are being stopped, plus one while the stop requests are sent
  std::function<void()> when_stopped_;
};

}  // namespace sma::storage_target::vhost_user
