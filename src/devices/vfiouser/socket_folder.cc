// SPDX-License-Identifier: Apache-2.0

#include "devices/vfiouser/socket_folder.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/unique_fd.h"

namespace sma::vfiouser {
namespace {

absl::Status Failed(const std::string& path, int error) {
  return absl::FailedPreconditionError(fmt::format("{}: {}", path, std::strerror(error)));
}

// Returns true if `path` is a socket on which no process listens, so that connections are refused.
bool IsDeadSocket(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  base::UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
         errno == ECONNREFUSED;
}

}  // namespace

absl::StatusOr<bool> MakeFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  if (error) return Failed(path, error.value());
  if (::mkdir(path.c_str(), 0755) == 0) return true;
  if (errno != EEXIST) return Failed(path, errno);
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return Failed(path, errno);
  if (!S_ISDIR(status.st_mode)) return Failed(path, ENOTDIR);
  // In a folder such as /var/tmp, any user may have created this folder in order to place a socket
  // there.
  if (status.st_uid != ::geteuid() && status.st_uid != 0) {
    return absl::FailedPreconditionError(
        fmt::format("{}: is owned by another user (uid {})", path, status.st_uid));
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::FailedPreconditionError(
        fmt::format("{}: is writable by other users (mode {:o})", path, status.st_mode & 07777));
  }
  return false;
}

absl::StatusOr<bool> RemoveFolder(const std::string& path) {
  const std::string socket = fmt::format("{}/{}", path, kSocketName);
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    return errno == ENOENT ? absl::StatusOr<bool>(true) : Failed(path, errno);
  }
  if (!S_ISDIR(status.st_mode)) return true;
  if (IsDeadSocket(socket)) ::unlink(socket.c_str());
  if (::rmdir(path.c_str()) == 0 || errno == ENOENT) return true;
  return errno == ENOTEMPTY || errno == EEXIST ? absl::StatusOr<bool>(false) : Failed(path, errno);
}

}  // namespace sma::vfiouser
