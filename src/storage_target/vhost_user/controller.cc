// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vhost_user/controller.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/descriptor_limit.h"
#include "base/log.h"
#include "base/peer_log.h"
#include "storage_target/virtio/guest_socket.h"
#include "storage_target/virtio/received_fd.h"

namespace sma::storage_target::vhost_user {
namespace {

uint32_t next_session_id = 0;  // used only by the control reactor

base::ErrnoOr<sockaddr_un> SocketAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return base::ErrnoOr<sockaddr_un>::Error(ENAMETOOLONG);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

base::UniqueFd MakeSocket() {
  return base::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

// Removes a socket file on which no process listens. Returns 0 or an errno value.
int RemoveStaleSocket(const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return errno == ENOENT ? 0 : errno;
  if (!S_ISSOCK(status.st_mode)) return EEXIST;
  base::UniqueFd probe = MakeSocket();
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EAGAIN) {
    return EADDRINUSE;
  }
  return ::unlink(path.c_str()) == 0 ? 0 : errno;
}

}  // namespace

base::ErrnoOr<std::unique_ptr<Controller>> Controller::Create(bdev::Registry& registry,
                                                              Options options) {
  using Result = base::ErrnoOr<std::unique_ptr<Controller>>;
  assert(!options.reactors.empty());
  const std::string bdev_name = options.bdev_name;
  std::unique_ptr<Controller> controller(new Controller(registry, std::move(options)));
  if (int error = controller->Open(bdev_name); error != 0) return Result::Error(error);
  if (int error = controller->Listen(); error != 0) return Result::Error(error);
  return controller;
}

Controller::~Controller() {
  assert(sessions_.empty());
  if (!acceptor_) return;
  ::unlink(options_.socket_path.c_str());
  // Connections that were not accepted may have sent descriptors whose close blocks.
  virtio::CloseInBackground(acceptor_->TakeListener());
}

int Controller::Open(const std::string& bdev_name) {
  using Access = bdev::Registry::Access;
  bool read_only = options_.read_only;
  auto descriptor = registry_.Open(bdev_name, read_only ? Access::kRead : Access::kWrite, this);
  if (!descriptor.ok() && descriptor.error() == EROFS) {
    read_only = true;
    descriptor = registry_.Open(bdev_name, Access::kRead, this);
  }
  if (!descriptor.ok()) return descriptor.error();
  read_only_ = read_only;
  descriptor_ = *std::move(descriptor);
  bdev_uuid_ = descriptor_->bdev().info().uuid;
  device_ = DeviceOf(descriptor_->bdev());
  return 0;
}

int Controller::Listen() {
  auto address = SocketAddress(options_.socket_path);
  if (!address.ok()) return address.error();
  if (int error = RemoveStaleSocket(options_.socket_path, *address); error != 0) return error;
  base::UniqueFd listener = MakeSocket();
  if (base::IsReservedForJsonRpc(listener.get())) return EMFILE;
  if (int error = virtio::BindGuestSocket(listener.get(), *address); error != 0) return error;
  const int error = ::listen(listener.get(), SOMAXCONN) == 0 ? 0 : errno;
  // From here on, the destructor removes the socket file.
  acceptor_ =
      std::make_unique<Acceptor>(registry_.control(), std::move(listener),
                                 Acceptor::Options{.name = options_.socket_path,
                                                   .keep_reserve = true,
                                                   .may_accept = [this] { return MayAccept(); }},
                                 [this](AcceptedPeer peer) { OnAccept(std::move(peer.socket)); });
  return error != 0 ? error : acceptor_->SetAccepting(true);
}

// A front end that reconnects is accepted only when no request of its previous session is
// outstanding: a write of the previous session must not reach the disk after one of the new
// session.
bool Controller::MayAccept() const {
  const bool draining = std::ranges::any_of(
      sessions_, [](const std::unique_ptr<Session>& session) { return session->ended(); });
  return !closing_ && !draining && !notifier_->blocked() && sessions_.size() < kMaxSessions;
}

void Controller::UpdateListening() {
  if (int error = acceptor_->SetAccepting(MayAccept()); error != 0) {
    base::LogOfPeers().Log(spdlog::level::err, name(), "vhost {}: cannot accept front ends: {}",
                           name(), strerror(error));
  }
}

void Controller::OnAccept(base::UniqueFd socket) {
  sessions_.push_back(
      std::make_unique<Session>(*this, registry_.control(), next_session_id++, std::move(socket)));
  sessions_.back()->Begin();
}

size_t Controller::eventfd_count() const {
  size_t count = 0;
  for (const std::unique_ptr<Session>& session : sessions_) count += session->eventfd_count();
  return count;
}

void Controller::OnSessionEnded(Session& session) {
  sessions_.remove_if(
      [&session](const std::unique_ptr<Session>& other) { return other.get() == &session; });
  if (!on_closed_) {
    if (sessions_.empty() && notifier_->blocked()) BeginPenalty();
    UpdateListening();
  } else if (sessions_.empty()) {
    std::exchange(on_closed_, nullptr)();  // may destroy this
  }
}

void Controller::OnBlockedWrite() {
  for (const auto& session : sessions_) session->End("an eventfd of a front end blocked a write");
}

void Controller::BeginPenalty() {
  if (penalty_timer_ != 0) return;
  penalty_timer_ = registry_.control().AddTimer(virtio::PeerNotifier::kPenalty, [this] {
    penalty_timer_ = 0;
    notifier_->Reset();
    UpdateListening();
  });
}

void Controller::Close(std::function<void()> done) {
  closing_ = true;
  registry_.control().CancelTimer(std::exchange(penalty_timer_, 0));
  UpdateListening();
  if (sessions_.empty()) {
    registry_.control().Post(std::move(done));
    return;
  }
  on_closed_ = std::move(done);
  for (const auto& session : sessions_) session->End("the controller was deleted");
}

Reactor& Controller::NextReactor() {
  return *options_.reactors[next_reactor_++ % options_.reactors.size()];
}

std::shared_ptr<virtio::GuestTurn> Controller::TurnIn(Reactor& reactor) {
  std::shared_ptr<virtio::GuestTurn>& turn = turns_[&reactor];
  if (!turn) turn = std::make_shared<virtio::GuestTurn>(reactor);
  return turn;
}

void Controller::OnBdevRemove() {
  if (std::exchange(detaching_, true)) return;
  spdlog::warn("vhost {}: bdev {} was removed, failing requests until it reappears", name(),
               descriptor_->bdev().name());
  auto left = std::make_shared<size_t>(1);
  // The last vring to respond may be one that is being started or stopped, and the controller may
  // have been destroyed by then.
  auto one_less = [this, left, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired() || --*left > 0) return;
    detaching_ = false;
    descriptor_.reset();
  };
  for (const auto& session : sessions_) {
    ++*left;
    session->DetachBdev(one_less);
  }
  one_less();
}

void Controller::OnBdevResize() {
  device_ = DeviceOf(descriptor_->bdev());
  NotifyConfigChange();
}

void Controller::NotifyConfigChange() {
  for (const auto& session : sessions_) session->NotifyConfigChange();
}

// A running driver keeps the features that it negotiated, so the bdev must still support them.
void Controller::OfferBdev(bdev::Bdev& bdev) {
  if (descriptor_ || bdev.info().uuid != bdev_uuid_ || bdev.block_size() != device_->block_size) {
    return;
  }
  const virtio::BlkDevice device(bdev, options_.read_only || bdev.info().read_only,
                                 Session::kMaxQueues, options_.packed_ring);
  const bool lacks_features = (device_->features & ~device.features) != 0;
  if (!sessions_.empty() && lacks_features) return;
  if (int error = Open(bdev.name()); error != 0) {
    spdlog::warn("vhost {}: bdev {} reappeared but cannot be used: {}", name(), bdev.name(),
                 strerror(error));
    return;
  }
  spdlog::info("vhost {}: bdev reappeared as {}", name(), bdev.name());
  for (const auto& session : sessions_) session->AttachBdev(*descriptor_);
  NotifyConfigChange();
}

}  // namespace sma::storage_target::vhost_user
