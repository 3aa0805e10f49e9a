// SPDX-License-Identifier: Apache-2.0

#include "agent/embedded/embedded_target.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

namespace sma::embedded {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr milliseconds kTermTime = seconds(10);
constexpr milliseconds kListenPollTime{5};

// Suffix that the kernel appends to the path of a running executable whose file was replaced.
constexpr std::string_view kDeletedSuffix = " (deleted)";

/// Returns the resolved path, so that different spellings compare equal.
std::string Resolved(std::string path) {
  if (path.ends_with(kDeletedSuffix)) path.resize(path.size() - kDeletedSuffix.size());
  std::error_code error;
  std::filesystem::path resolved = std::filesystem::canonical(path, error);
  return error ? path : resolved.string();
}

}  // namespace

std::string DefaultBinary() {
  std::error_code error;
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / "sma-target").string();
}

absl::StatusOr<EmbeddedTarget::Found> EmbeddedTarget::AdoptOrStart(
    const EmbeddedTargetOptions& options) {
  absl::StatusOr<std::optional<Process>> running = Process::ListeningOn(options.socket);
  if (!running.ok()) return running.status();
  if (*running) {
    spdlog::info("target: adopted process {} on {}", (*running)->pid(), options.socket);
    return Found{**std::move(running), true};
  }
  std::vector<std::string> argv = {options.binary, "-r", options.socket};
  argv.insert(argv.end(), options.arguments.begin(), options.arguments.end());
  absl::StatusOr<Process> started = Process::Spawn(argv, options.log_file);
  if (!started.ok()) return started.status();
  spdlog::info("target: started process {} for {}", started->pid(), options.socket);
  return Found{*std::move(started), false};
}

absl::StatusOr<std::unique_ptr<EmbeddedTarget>> EmbeddedTarget::Start(
    EmbeddedTargetOptions options) {
  absl::StatusOr<Found> found = AdoptOrStart(options);
  if (!found.ok()) return found.status();
  return std::unique_ptr<EmbeddedTarget>(new EmbeddedTarget(std::move(options), *std::move(found)));
}

EmbeddedTarget::EmbeddedTarget(EmbeddedTargetOptions options, Found found)
    : options_(std::move(options)),
      adopted_(found.adopted),
      pid_(found.process.pid()),
      stop_event_(::eventfd(0, EFD_CLOEXEC)),
      process_(std::move(found.process)),
      is_ours_(!found.adopted || Resolved(process_.Executable()) == Resolved(options_.binary)),
      thread_([this] { Supervise(); }) {}

EmbeddedTarget::~EmbeddedTarget() {
  ::eventfd_write(stop_event_.get(), 1);
  thread_.join();
  if (options_.stop_at_end) EndTarget();
}

absl::Status EmbeddedTarget::WaitUntilListening(const base::Context& context) {
  while (true) {
    absl::StatusOr<std::optional<Process>> listener = Process::ListeningOn(options_.socket);
    if (!listener.ok()) return listener.status();
    if (*listener) return absl::OkStatus();
    {
      base::MutexLock lock(mutex_);
      if (!last_end_.empty()) {
        return absl::FailedPreconditionError(
            fmt::format("{} ended before it listened: {}", options_.binary, last_end_));
      }
    }
    absl::Status status = context.SleepUntil(steady_clock::now() + kListenPollTime);
    if (!status.ok()) return status;
  }
}

void EmbeddedTarget::Supervise() {
  while (!StopWithin(milliseconds::max(), process_.fd())) {
    process_.WaitForEnd(milliseconds(0));
    {
      base::MutexLock lock(mutex_);
      last_end_ = process_.end();
    }
    spdlog::error("target: process {} ended: {}", process_.pid(), process_.end());
    if (!Restart()) return;
  }
}

/// Returns false if supervision must stop.
bool EmbeddedTarget::Restart() {
  while (true) {
    if (StopWithin(NextPause(), -1)) return false;
    absl::StatusOr<Found> found = AdoptOrStart(options_);
    began_ = steady_clock::now();
    if (!found.ok()) {
      spdlog::error("target: {}", std::string(found.status().message()));
      continue;
    }
    {
      base::MutexLock lock(mutex_);
      last_end_.clear();
    }
    process_ = std::move(found->process);
    is_ours_ = !found->adopted || Resolved(process_.Executable()) == Resolved(options_.binary);
    pid_ = process_.pid();
    ++restarts_;
    return true;
  }
}

milliseconds EmbeddedTarget::NextPause() {
  if (steady_clock::now() - began_ >= options_.longest_pause) {
    pause_ = milliseconds(0);
    return pause_;
  }
  pause_ = std::min(std::max(pause_ * 2, options_.first_pause), options_.longest_pause);
  return pause_;
}

/// Waits for `time`, or until `other_fd` is readable if it is not -1. Returns true immediately if
/// supervision must stop.
bool EmbeddedTarget::StopWithin(milliseconds time, int other_fd) {
  pollfd fds[] = {{stop_event_.get(), POLLIN, 0}, {other_fd, POLLIN, 0}};
  bool forever = time == milliseconds::max();
  auto until = forever ? steady_clock::time_point::max() : steady_clock::now() + time;
  int count = 0;
  do {
    auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    int left_ms = static_cast<int>(std::max<int64_t>(left.count(), 0));
    count = ::poll(fds, 2, forever ? -1 : left_ms);
  } while (count < 0 && errno == EINTR);
  return (fds[0].revents & POLLIN) != 0;
}

void EmbeddedTarget::EndTarget() {
  if (process_.WaitForEnd(milliseconds(0))) return;
  if (!is_ours_) {
    spdlog::info("target: process {} was started from a different executable and is left running",
                 process_.pid());
    return;
  }
  process_.Signal(SIGTERM);
  if (process_.WaitForEnd(kTermTime)) return;
  spdlog::warn("target: process {} did not exit after SIGTERM, killing it", process_.pid());
  process_.Signal(SIGKILL);
  process_.WaitForEnd(kTermTime);
}

}  // namespace sma::embedded
