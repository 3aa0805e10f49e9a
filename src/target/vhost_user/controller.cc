#include "target/vhost_user/controller.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "target/virtio/guest_socket.h"

namespace sma::target::vhost_user {
namespace {

uint32_t next_session_id = 0;  // the control reactor's

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

// Removes a socket that nobody listens on. 0 or an errno value.
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
  if (listening_) registry_.control().Unwatch(listener_.get());
  if (listener_) ::unlink(options_.socket_path.c_str());
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
  if (int error = virtio::BindGuestSocket(listener.get(), *address); error != 0) return error;
  listener_ = std::move(listener);  // from here on the destructor removes the socket
  if (::listen(listener_.get(), SOMAXCONN) != 0) return errno;
  UpdateListening();
  return listening_ ? 0 : EIO;
}

// A front end that comes back waits until nothing of its former session is under way: a write of
// that one must not come after one of the new session.
void Controller::UpdateListening() {
  const bool draining = std::ranges::any_of(
      sessions_, [](const std::unique_ptr<Session>& session) { return session->ended(); });
  const bool listen = !closing_ && !draining && sessions_.size() < kMaxSessions;
  if (listen == listening_) return;
  if (listen) {
    listening_ = registry_.control().Watch(listener_.get(), EPOLLIN, this) == 0;
  } else {
    registry_.control().Unwatch(listener_.get());
    listening_ = false;
  }
}

void Controller::OnFdReady(uint32_t /*events*/) {
  UpdateListening();
  if (!listening_) return;
  base::UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket) return;
  sessions_.push_back(
      std::make_unique<Session>(*this, registry_.control(), next_session_id++, std::move(socket)));
  sessions_.back()->Begin();
  UpdateListening();
}

void Controller::OnSessionEnded(Session& session) {
  sessions_.remove_if(
      [&session](const std::unique_ptr<Session>& other) { return other.get() == &session; });
  if (!on_closed_) {
    UpdateListening();
  } else if (sessions_.empty()) {
    std::exchange(on_closed_, nullptr)();  // may destroy this
  }
}

void Controller::Close(std::function<void()> done) {
  closing_ = true;
  UpdateListening();
  if (sessions_.empty()) {
    registry_.control().Post(std::move(done));
    return;
  }
  on_closed_ = std::move(done);
  for (const auto& session : sessions_) session->End("the controller is closed");
}

Reactor& Controller::NextReactor() {
  return *options_.reactors[next_reactor_++ % options_.reactors.size()];
}

void Controller::OnBdevRemove() {
  if (std::exchange(detaching_, true)) return;
  spdlog::warn("vhost {}: its bdev {} is gone", name(), descriptor_->bdev().name());
  auto left = std::make_shared<size_t>(1);
  // A vring that is being started or stopped may be the last to answer, when the controller is
  // gone.
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

// A driver that is at work keeps the features that it chose, so the bdev has to have them still.
void Controller::OfferBdev(bdev::Bdev& bdev) {
  if (descriptor_ || bdev.info().uuid != bdev_uuid_ || bdev.block_size() != device_->block_size) {
    return;
  }
  const virtio::BlkDevice device(bdev, options_.read_only || bdev.info().read_only,
                                 Session::kMaxQueues, options_.packed_ring);
  const bool lacks_features = (device_->features & ~device.features) != 0;
  if (!sessions_.empty() && lacks_features) return;
  if (int error = Open(bdev.name()); error != 0) {
    spdlog::warn("vhost {}: bdev {} is back: {}", name(), bdev.name(), strerror(error));
    return;
  }
  spdlog::info("vhost {}: its bdev is back as {}", name(), bdev.name());
  for (const auto& session : sessions_) session->AttachBdev(*descriptor_);
  NotifyConfigChange();
}

}  // namespace sma::target::vhost_user
