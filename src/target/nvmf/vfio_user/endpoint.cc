#include "target/nvmf/vfio_user/endpoint.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "spdlog/spdlog.h"
#include "target/virtio/guest_socket.h"

namespace sma::target::nvmf::vfio_user {
namespace {

constexpr char kSocketName[] = "/cntrl";

base::UniqueFd MakeSocket() {
  return base::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

// Removes what is left of a program that was killed.
int RemoveStale(const sockaddr_un& address) {
  struct stat status {};
  if (::lstat(address.sun_path, &status) != 0) return errno == ENOENT ? 0 : errno;
  if (!S_ISSOCK(status.st_mode)) return EEXIST;
  base::UniqueFd probe = MakeSocket();
  const int connected =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  if (connected == 0 || errno != ECONNREFUSED) return EADDRINUSE;
  return ::unlink(address.sun_path) == 0 || errno == ENOENT ? 0 : errno;
}

}  // namespace

base::ErrnoOr<std::unique_ptr<Endpoint>> Endpoint::Open(Target& target, Reactor& reactor,
                                                        const Options& options,
                                                        const TransportAddress& address,
                                                        const std::string& subsystem_nqn) {
  using Result = base::ErrnoOr<std::unique_ptr<Endpoint>>;
  std::unique_ptr<Endpoint> endpoint(
      new Endpoint(target, reactor, options, address, subsystem_nqn));
  if (int error = endpoint->Listen(); error != 0) return Result::Error(error);
  return endpoint;
}

int Endpoint::Listen() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path = this->address().address + kSocketName;
  if (path.size() >= sizeof address.sun_path) return ENAMETOOLONG;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (int error = RemoveStale(address); error != 0) return error;
  base::UniqueFd listener = MakeSocket();
  if (int error = virtio::BindGuestSocket(listener.get(), address); error != 0) return error;
  socket_path_ = std::move(path);
  has_name_ = true;  // from here on the destructor removes it
  listener_ = std::move(listener);
  return ::listen(listener_.get(), SOMAXCONN) == 0 ? 0 : errno;
}

Endpoint::~Endpoint() {
  assert(!session_ && !listening_);
  RemoveSocket();
}

void Endpoint::RemoveSocket() {
  if (std::exchange(has_name_, false)) ::unlink(socket_path_.c_str());
}

void Endpoint::Start() { SetListening(true); }

// A client that comes while there is one waits for the end of that.
void Endpoint::SetListening(bool listening) {
  if (listening == listening_) return;
  if (listening) {
    const int error = reactor_.Watch(listener_.get(), EPOLLIN, this);
    if (error != 0) spdlog::error("{}: cannot be watched: {}", socket_path_, strerror(-error));
    listening_ = error == 0;
  } else {
    reactor_.Unwatch(listener_.get());
    listening_ = false;
  }
}

void Endpoint::OnFdReady(uint32_t /*events*/) {
  base::UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket) return;
  SetListening(false);
  spdlog::info("{}: a client is connected", socket_path_);
  session_ = std::make_unique<target::vfio_user::Session>(reactor_, function_, std::move(socket),
                                                          [this] { OnSessionEnded(); });
  session_->Begin();
}

void Endpoint::OnSessionEnded() {
  session_.reset();
  if (when_closed_) {
    std::exchange(when_closed_, nullptr)();  // may destroy this
  } else {
    SetListening(true);
  }
}

void Endpoint::Close(std::function<void()> done) {
  assert(!when_closed_);
  SetListening(false);
  listener_.Reset();
  if (!session_) return done();
  when_closed_ = std::move(done);
  session_->End("the listener is removed");
}

}  // namespace sma::target::nvmf::vfio_user
