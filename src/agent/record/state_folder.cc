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

namespace sma::record {
namespace {

absl::Status FolderError(const std::string& path, std::string_view what) {
  return absl::FailedPreconditionError(fmt::format("state folder {}: {}", path, what));
}

absl::Status SystemError(const std::string& path, int error) {
  return FolderError(path, std::strerror(error));
}

// Makes sure that nobody but the owner can look into the folder.
absl::Status MakePrivate(const std::string& path) {
  std::error_code error;
  std::filesystem::path folder(path);
  if (folder.has_parent_path()) std::filesystem::create_directories(folder.parent_path(), error);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return SystemError(path, errno);
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return SystemError(path, errno);
  if (!S_ISDIR(info.st_mode)) return FolderError(path, "is not a folder");
  if (info.st_uid != ::geteuid()) return FolderError(path, "belongs to another user");
  if ((info.st_mode & 0077) != 0 && ::chmod(path.c_str(), 0700) != 0) {
    return SystemError(path, errno);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StateFolder> StateFolder::Open(const std::string& path) {
  if (absl::Status status = MakePrivate(path); !status.ok()) return status;
  std::string file = path + "/lock";
  base::UniqueFd lock(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) return SystemError(path, errno);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK ? FolderError(path, "is in use by another agent")
                                : SystemError(path, errno);
  }
  return StateFolder(path, std::move(lock));
}

}  // namespace sma::record
