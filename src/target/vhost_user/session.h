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
#include "target/bdev/bdev.h"
#include "target/reactor/reactor.h"
#include "target/vhost_user/connection.h"
#include "target/vhost_user/message.h"
#include "target/vhost_user/vring.h"
#include "target/virtio/blk_device.h"
#include "target/virtio/guest_memory.h"

namespace sma::target::vhost_user {

class Session;

/// The device that a session serves. All in the control reactor.
class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  virtual const std::string& name() const = 0;
  virtual const virtio::BlkDevice& device() const = 0;
  /// Null while there is no bdev.
  virtual bdev::Descriptor* descriptor() const = 0;
  /// The reactor for one more vring.
  virtual Reactor& NextReactor() = 0;
  /// `session` has ended and nothing of it is under way: it may be destroyed.
  virtual void OnSessionEnded(Session& session) = 0;
};

/// One connected front end: does what its messages say, one after another, until it goes. Belongs
/// to the control reactor. A message that is malformed, or that is refused and wants no
/// acknowledgement, ends the session; what a guest does wrong in a ring ends that vring alone.
class Session final : private FdHandler {
 public:
  /// Of a device, as its configuration space says.
  static constexpr uint16_t kMaxQueues = 128;

  /// `id` tells the sessions of a program apart.
  Session(SessionOwner& owner, Reactor& control, uint32_t id, base::UniqueFd socket);
  /// After SessionOwner::OnSessionEnded.
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Begins to read messages. To be called once.
  void Begin();
  /// Reads no more messages, stops the vrings and aborts their requests that the medium does not
  /// have yet; when nothing is under way any more the owner is told, never in here. Idempotent.
  void End(std::string_view reason);

  /// Gives a bdev to the vrings that run. Those that start later take the owner's.
  void AttachBdev(bdev::Descriptor& descriptor);
  /// `done` when no vring has the bdev or its descriptor any more.
  void DetachBdev(std::function<void()> done);
  /// Tells the front end, if it wants to be told, that the configuration space has changed.
  void NotifyConfigChange();

  uint32_t id() const { return id_; }
  /// End was called.
  bool ended() const { return ended_; }
  uint32_t running_vrings() const;
  /// Requests under way in the vrings that run.
  uint32_t outstanding_requests() const;

 private:
  using Method = void (Session::*)();
  static Method FindMethod(Request request);

  void OnFdReady(uint32_t events) override;
  void Handle();
  void SetReading(bool reading);

  // Answers to the present message; they may end the session.
  void Acknowledge();
  void Refuse(std::string_view reason);
  void Reply(std::span<const std::byte> payload, int fd = -1);
  void ReplyNumber(uint64_t number);
  bool Has(ProtocolFeature feature) const { return (protocol_features_ & Bit(feature)) != 0; }

  // Stops those of `vrings` that run, does `change`, which answers the message, and starts all
  // vrings that are ready. No message is read meanwhile.
  void ChangeStopped(const std::vector<Vring*>& vrings, std::function<void()> change);
  void StopThen(const std::vector<Vring*>& vrings, std::function<void()> then);
  void OnVringStopped();
  void StartReadyVrings();
  std::vector<Vring*> AllVrings() const;

  // Of what the messages need.
  Vring* FindVring(uint64_t index);  // nullptr, with the message refused, when there can be none
  bool TakeEventFd(base::UniqueFd& eventfd);  // false, with the message refused, for anything else
  void UseMemory(virtio::GuestMemory memory);
  void ChangeVring(Vring& vring, std::function<void()> change);

  // One method for each message, of the same name.
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
  Message message_;  // the present one
  std::vector<std::unique_ptr<Vring>> vrings_;
  VringEnvironment environment_;
  uint64_t protocol_features_ = 0;
  bool reading_ = false;
  bool ended_ = false;
  uint32_t stopping_ = 0;  // vrings that have not stopped yet, and one while they are being told
  std::function<void()> when_stopped_;
};

}  // namespace sma::target::vhost_user
