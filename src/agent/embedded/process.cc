// SPDX-License-Identifier: Apache-2.0

#include "agent/embedded/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "base/peer_user.h"

extern char** environ;

namespace sma::embedded {
namespace {

constexpr mode_t kLogFileMode = 0640;

base::UniqueFd OpenPidfd(pid_t pid) {
  return base::UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

/// Parameters of posix_spawn for the child.
class SpawnSetup {
 public:
  SpawnSetup() {
    posix_spawnattr_init(&attributes_);
    posix_spawn_file_actions_init(&actions_);
  }
  ~SpawnSetup() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;

  void UseOwnSessionAndDefaultSignals() {
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setflags(&attributes_,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }

  void UseStandardFiles(const std::string& log_file) {
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!log_file.empty()) {
      posix_spawn_file_actions_addopen(&actions_, STDERR_FILENO, log_file.c_str(),
                                       O_WRONLY | O_CREAT | O_APPEND, kLogFileMode);
    }
    posix_spawn_file_actions_adddup2(&actions_, STDERR_FILENO, STDOUT_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&actions_, STDERR_FILENO + 1);
  }

  /// Returns an errno value; 0 on success.
  int Spawn(const std::vector<std::string>& argv, pid_t& pid) const {
    std::vector<char*> pointers;
    for (const std::string& argument : argv)
      pointers.push_back(const_cast<char*>(argument.c_str()));
    pointers.push_back(nullptr);
    return posix_spawn(&pid, pointers[0], &actions_, &attributes_, pointers.data(), environ);
  }

 private:
  posix_spawnattr_t attributes_;
  posix_spawn_file_actions_t actions_;
};

std::string DescribeEnd(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return fmt::format("exit status {}", info.si_status);
  return fmt::format("signal {}", info.si_status);
}

}  // namespace

absl::StatusOr<Process> Process::Spawn(const std::vector<std::string>& argv,
                                       const std::string& log_file) {
  SpawnSetup setup;
  setup.UseOwnSessionAndDefaultSignals();
  setup.UseStandardFiles(log_file);
  pid_t pid = 0;
  if (int error = setup.Spawn(argv, pid); error != 0) {
    return absl::ErrnoToStatus(error, fmt::format("cannot start {}", argv[0]));
  }
  // Only this class reaps the child, so the PID cannot have been reused.
  base::UniqueFd fd = OpenPidfd(pid);
  if (!fd) return absl::ErrnoToStatus(errno, fmt::format("cannot watch {}", argv[0]));
  return Process(pid, std::move(fd));
}

absl::StatusOr<std::optional<Process>> Process::ListeningOn(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof(name.sun_path)) return std::nullopt;
  std::copy(path.begin(), path.end(), name.sun_path);
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0) {
    return std::nullopt;
  }
  if (absl::Status status = base::CheckPeerUser(socket.get()); !status.ok()) {
    return absl::Status(status.code(), fmt::format("{}: {}", path, std::string(status.message())));
  }
  // The PID among the peer's credentials is that of the process that called listen().
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return std::nullopt;
  base::UniqueFd fd = OpenPidfd(peer.pid);
  if (!fd) return std::nullopt;
  return std::optional(Process(peer.pid, std::move(fd)));
}

std::string Process::Executable() const {
  char path[PATH_MAX];
  ssize_t length = ::readlink(fmt::format("/proc/{}/exe", pid_).c_str(), path, sizeof(path));
  return length > 0 ? std::string(path, static_cast<size_t>(length)) : "";
}

bool Process::WaitForEnd(std::chrono::milliseconds timeout) {
  auto until = std::chrono::steady_clock::now() + timeout;
  while (true) {
    auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    auto left_ms = std::clamp<int64_t>(left.count(), 0, INT_MAX);
    pollfd ended{fd_.get(), POLLIN, 0};
    int count = ::poll(&ended, 1, static_cast<int>(left_ms));
    if (count > 0) break;
    if (count == 0 && left_ms == 0) return false;
  }
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(fd_.get()), &info, WEXITED | WNOHANG) == 0 &&
      info.si_pid == pid_) {
    end_ = DescribeEnd(info);
  }
  return true;
}

void Process::Signal(int signal) const {
  ::syscall(SYS_pidfd_send_signal, fd_.get(), signal, nullptr, 0);
}

}  // namespace sma::embedded
