// SPDX-License-Identifier: Apache-2.0

#include "base/peer_user.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace sma::base {
namespace {

constexpr int kMaxLinks = 40;  // the kernel's limit: path_resolution(7)

absl::Status CheckFolder(const std::filesystem::path& folder) {
  struct stat info {};
  if (::stat(folder.c_str(), &info) != 0) return absl::ErrnoToStatus(errno, folder.string());
  if (!IsTrustedUser(info.st_uid)) {
    return absl::FailedPreconditionError(
        fmt::format("the folder {} belongs to user {}", folder.string(), info.st_uid));
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (info.st_mode & S_ISVTX) == 0) {
    return absl::FailedPreconditionError(
        fmt::format("other users may write to the folder {}", folder.string()));
  }
  return absl::OkStatus();
}

absl::Status CheckFoldersAbove(const std::filesystem::path& file) {
  std::error_code error;
  std::filesystem::path folder = std::filesystem::canonical(file.parent_path(), error);
  if (error) return absl::ErrnoToStatus(error.value(), file.parent_path().string());
  while (true) {
    if (absl::Status status = CheckFolder(folder); !status.ok()) return status;
    if (folder == folder.root_path()) return absl::OkStatus();
    folder = folder.parent_path();
  }
}

}  // namespace

bool IsTrustedUser(uid_t user) { return user == 0 || user == ::geteuid(); }

absl::Status CheckPeerUser(int socket) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return absl::ErrnoToStatus(errno, "cannot tell whose process listens");
  }
  if (IsTrustedUser(peer.uid)) return absl::OkStatus();
  return absl::PermissionDeniedError(
      fmt::format("process {} is listening there as user {}, which is neither user {} nor root",
                  peer.pid, peer.uid, ::geteuid()));
}

absl::Status CheckFolders(const std::string& path) {
  std::error_code error;
  std::filesystem::path file = std::filesystem::absolute(path, error);
  for (int links = 0; !error && links <= kMaxLinks; ++links) {
    if (absl::Status status = CheckFoldersAbove(file); !status.ok()) return status;
    if (!std::filesystem::is_symlink(file)) return absl::OkStatus();
    std::filesystem::path target = std::filesystem::read_symlink(file, error);
    file = file.parent_path() / target;  // `target` alone if it is absolute
  }
  return absl::ErrnoToStatus(error ? error.value() : ELOOP, path);
}

}  // namespace sma::base
