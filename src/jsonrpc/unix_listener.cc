// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/unix_listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/peer_log.h"

namespace sma::jsonrpc {
namespace {

constexpr int kBacklog = 512;

absl::Status KernelError(int error, std::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(error, fmt::format("{} {}", what, path));
}

absl::Status InUse(const std::string& path) {
  return absl::AlreadyExistsError(fmt::format("another program listens on {}", path));
}

std::string LockPath(const std::string& path) { return path + ".lock"; }

sockaddr_un Address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

base::UniqueFd NewSocket() {
  return base::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

bool SameFile(int fd, const std::string& path) {
  struct stat by_fd {
  }, by_path{};
  return ::fstat(fd, &by_fd) == 0 && ::stat(path.c_str(), &by_path) == 0 &&
         by_fd.st_dev == by_path.st_dev && by_fd.st_ino == by_path.st_ino;
}

}  // namespace

absl::StatusOr<std::unique_ptr<UnixListener>> UnixListener::Open(const std::string& path,
                                                                 mode_t mode) {
  if (path.empty() || path.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(fmt::format("socket path '{}' must have 1 to {} characters",
                                                  path, sizeof(sockaddr_un::sun_path) - 1));
  }
  std::unique_ptr<UnixListener> listener(new UnixListener(path));
  if (absl::Status status = listener->Lock(); !status.ok()) return status;
  if (absl::Status status = listener->RemoveStale(); !status.ok()) return status;
  if (absl::Status status = listener->Bind(mode); !status.ok()) return status;
  listener->reserve_.Reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  return listener;
}

UnixListener::~UnixListener() {
  if (!lock_.valid()) return;
  struct stat now {};
  if (inode_ != 0 && ::lstat(path_.c_str(), &now) == 0 && now.st_dev == device_ &&
      now.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
  ::unlink(LockPath(path_).c_str());
}

// The holder of the lock may remove the lock file, so a lock is valid only while the file exists.
absl::Status UnixListener::Lock() {
  const std::string lock_path = LockPath(path_);
  while (true) {
    base::UniqueFd lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock.valid()) return KernelError(errno, "cannot open", lock_path);
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
      return errno == EWOULDBLOCK ? InUse(path_) : KernelError(errno, "cannot lock", lock_path);
    }
    if (SameFile(lock.get(), lock_path)) {
      lock_ = std::move(lock);
      return absl::OkStatus();
    }
  }
}

absl::Status UnixListener::RemoveStale() {
  struct stat file {};
  if (::lstat(path_.c_str(), &file) != 0) {
    return errno == ENOENT ? absl::OkStatus() : KernelError(errno, "cannot stat", path_);
  }
  if (!S_ISSOCK(file.st_mode)) {
    return absl::InvalidArgumentError(fmt::format("{} exists and is not a socket", path_));
  }
  const sockaddr_un address = Address(path_);
  base::UniqueFd probe = NewSocket();
  if (!probe.valid()) return KernelError(errno, "cannot make a socket for", path_);
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ||
      errno == EAGAIN) {
    return InUse(path_);
  }
  if (errno != ECONNREFUSED) return KernelError(errno, "cannot connect to", path_);
  if (::unlink(path_.c_str()) != 0) return KernelError(errno, "cannot remove", path_);
  return absl::OkStatus();
}

absl::Status UnixListener::Bind(mode_t mode) {
  base::UniqueFd socket = NewSocket();
  if (!socket.valid()) return KernelError(errno, "cannot make a socket for", path_);
  // bind() creates the file with the socket's own mode without the umask's bits, so its permissions
  // are never wider than requested; chmod() then adds the bits that the umask has removed.
  const sockaddr_un address = Address(path_);
  if (::fchmod(socket.get(), mode) != 0 ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return KernelError(errno, "cannot bind to", path_);
  }
  struct stat file {};
  if (::lstat(path_.c_str(), &file) != 0) return KernelError(errno, "cannot stat", path_);
  device_ = file.st_dev;
  inode_ = file.st_ino;
  if (::chmod(path_.c_str(), mode) != 0) return KernelError(errno, "cannot chmod", path_);
  if (::listen(socket.get(), kBacklog) != 0) return KernelError(errno, "cannot listen on", path_);
  socket_ = std::move(socket);
  return absl::OkStatus();
}

// The kernel reports that there are no descriptors before it looks for a peer.
bool UnixListener::HasPeer() const {
  pollfd state{.fd = fd(), .events = POLLIN, .revents = 0};
  return ::poll(&state, 1, 0) == 1;
}

UnixListener::Outcome UnixListener::Accept(base::UniqueFd& peer) {
  while (true) {
    peer.Reset(::accept4(fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (peer.valid()) return Outcome::kAccepted;
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Outcome::kNobody;
    if (errno != EMFILE && errno != ENFILE) return Outcome::kFailed;
    return HasPeer() ? Outcome::kNoDescriptors : Outcome::kNobody;
  }
}

// The reserve is lost if another thread takes the descriptor before it is reopened.
bool UnixListener::DropPeer() {
  if (!reserve_.valid()) reserve_.Reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!reserve_.valid()) return false;
  reserve_.Reset();
  base::UniqueFd peer(::accept4(fd(), nullptr, nullptr, SOCK_CLOEXEC));
  const bool dropped = peer.valid();
  peer.Reset();
  reserve_.Reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (dropped) {
    base::LogOfPeers().Log(spdlog::level::warn, path_,
                           "{}: connection refused, no file descriptors left", path_);
  }
  return dropped;
}

}  // namespace sma::jsonrpc
