// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/vfio_user/endpoint.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/descriptor_limit.h"
#include "base/peer_log.h"
#include "spdlog/spdlog.h"
#include "storage_target/virtio/guest_socket.h"
#include "storage_target/virtio/received_fd.h"

namespace sma::storage_target::nvmf::vfio_user {
namespace {

constexpr char kSocketName[] = "/cntrl";

base::UniqueFd MakeSocket() {
  return base::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

// Removes the socket that a killed program has left behind.
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
  if (base::IsReservedForJsonRpc(listener.get())) return EMFILE;
  if (int error = virtio::BindGuestSocket(listener.get(), address); error != 0) return error;
  socket_path_ = std::move(path);
  has_socket_file_ = true;  // from here on the destructor removes the socket file
  if (::listen(listener.get(), SOMAXCONN) != 0) return errno;
  acceptor_ = std::make_unique<Acceptor>(
      reactor_, std::move(listener), Acceptor::Options{.name = socket_path_, .keep_reserve = true},
      [this](AcceptedPeer peer) { OnAccept(std::move(peer.socket)); });
  return 0;
}

Endpoint::~Endpoint() {
  assert(!session_);
  RemoveSocket();
}

void Endpoint::RemoveSocket() {
  if (std::exchange(has_socket_file_, false)) ::unlink(socket_path_.c_str());
}

void Endpoint::Start() { SetAccepting(true); }

// A client that connects while another is connected waits until that one disconnects.
void Endpoint::SetAccepting(bool accepting) {
  if (int error = acceptor_->SetAccepting(accepting); error != 0)
    base::LogOfPeers().Log(spdlog::level::err, address().address, "{}: cannot accept clients: {}",
                           socket_path_, strerror(error));
}

void Endpoint::OnAccept(base::UniqueFd socket) {
  SetAccepting(false);
  base::LogOfPeers().Log(spdlog::level::info, address().address, "{}: a client is connected",
                         socket_path_);
  session_ = std::make_unique<storage_target::vfio_user::Session>(
      reactor_, function_, std::move(socket), [this] { OnSessionEnded(); });
  session_->Begin();
}

void Endpoint::OnSessionEnded() {
  session_.reset();
  if (when_closed_) {
    std::exchange(when_closed_, nullptr)();  // may destroy this
  } else if (function_.interrupts().blocked()) {
    BeginPenalty();
  } else {
    SetAccepting(true);
  }
}

void Endpoint::BeginPenalty() {
  base::LogOfPeers().Log(spdlog::level::warn, address().address,
                         "{}: an eventfd of the client blocked a write", socket_path_);
  penalty_timer_ = reactor_.AddTimer(virtio::PeerNotifier::kPenalty, [this] {
    penalty_timer_ = 0;
    function_.interrupts().AllowSignals();
    SetAccepting(true);
  });
}

void Endpoint::Close(std::function<void()> done) {
  assert(!when_closed_);
  reactor_.CancelTimer(std::exchange(penalty_timer_, 0));
  // Connections that were not accepted may have sent descriptors whose close blocks.
  if (acceptor_) virtio::CloseInBackground(acceptor_->TakeListener());
  acceptor_.reset();
  if (!session_) return done();
  when_closed_ = std::move(done);
  session_->End("the listener was removed");
}

}  // namespace sma::storage_target::nvmf::vfio_user
