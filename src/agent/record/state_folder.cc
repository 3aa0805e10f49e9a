// SPDX-License-Identifier: Apache-2.0

#include "agent/record/state_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/peer_user.h"

namespace sma::record {
namespace {

constexpr char kRecordFile[] = "record.db";

absl::Status FolderError(const std::string& path, std::string_view what) {
  return absl::FailedPreconditionError(fmt::format("state folder {}: {}", path, what));
}

absl::Status FileError(const std::string& path, std::string_view what) {
  return absl::FailedPreconditionError(fmt::format("the agent's record: {} {}", path, what));
}

absl::Status SystemError(const std::string& path, int error) {
  return FolderError(path, std::strerror(error));
}

// Rejects a symbolic link owned by another user, which could lead into any folder of the agent's
// user.
absl::Status CheckLink(const std::string& path) {
  struct stat link {};
  if (::lstat(path.c_str(), &link) != 0) return SystemError(path, errno);
  if (S_ISLNK(link.st_mode) && !base::IsTrustedUser(link.st_uid)) {
    return FolderError(path,
                       fmt::format("is a symbolic link owned by untrusted user {}", link.st_uid));
  }
  return absl::OkStatus();
}

bool IsEmptyOrHasRecord(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path + "/" + kRecordFile, error) ||
         std::filesystem::is_empty(path, error);
}

// Makes the folder accessible to its owner only. Returns its descriptor.
absl::StatusOr<base::UniqueFd> OpenPrivate(const std::string& path) {
  std::error_code error;
  std::filesystem::path folder(path);
  if (folder.has_parent_path()) std::filesystem::create_directories(folder.parent_path(), error);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return SystemError(path, errno);
  if (absl::Status status = CheckLink(path); !status.ok()) return status;
  base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat info {};
  if (!fd || ::fstat(fd.get(), &info) != 0) {
    return errno == ENOTDIR ? FolderError(path, "is not a folder") : SystemError(path, errno);
  }
  if (info.st_uid != ::geteuid()) return FolderError(path, "belongs to another user");
  if ((info.st_mode & (S_ISVTX | S_IWOTH)) != 0) {
    return FolderError(path, "is shared with other users (sticky, or writable by all)");
  }
  if ((info.st_mode & 0077) == 0) return fd;
  if (!IsEmptyOrHasRecord(path)) {
    return FolderError(path, "is readable by other users and holds other files besides the record");
  }
  if (::fchmod(fd.get(), 0700) != 0) return SystemError(path, errno);
  return fd;
}

absl::Status CheckFile(const std::string& path, const struct stat& info) {
  if (!S_ISREG(info.st_mode)) return FileError(path, "is not a regular file");
  if (info.st_uid != ::geteuid()) return FileError(path, "belongs to another user");
  if (info.st_nlink > 1) return FileError(path, "has another name (a hard link)");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StateFolder> StateFolder::Open(const std::string& path) {
  absl::StatusOr<base::UniqueFd> fd = OpenPrivate(path);
  if (!fd.ok()) return fd.status();
  std::error_code error;
  std::filesystem::path resolved = std::filesystem::canonical(path, error);
  if (error) return SystemError(path, error.value());
  StateFolder folder(resolved.string(), *std::move(fd));
  absl::StatusOr<base::UniqueFd> lock = folder.OpenFile("lock");
  if (!lock.ok()) return lock.status();
  folder.lock_ = *std::move(lock);
  if (::flock(folder.lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK ? FolderError(path, "is in use by another agent")
                                : SystemError(path, errno);
  }
  // SQLite opens these files itself, so they are checked here.
  for (const char* suffix : {"-wal", "-shm", "-journal"}) {
    const std::string name = std::string(kRecordFile) + suffix;
    struct stat info {};
    if (::fstatat(folder.folder_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
    absl::Status status = CheckFile(folder.path_ + "/" + name, info);
    if (!status.ok()) return status;
  }
  return folder;
}

absl::StatusOr<base::UniqueFd> StateFolder::OpenFile(const std::string& name) const {
  const std::string path = path_ + "/" + name;
  // O_NONBLOCK, because opening a FIFO must not block.
  constexpr int kFlags = O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  base::UniqueFd file(::openat(folder_.get(), name.c_str(), kFlags, 0600));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) {
    return errno == ELOOP ? FileError(path, "is a symbolic link") : SystemError(path, errno);
  }
  if (absl::Status status = CheckFile(path, info); !status.ok()) return status;
  return file;
}

}  // namespace sma::record
