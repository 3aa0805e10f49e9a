// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/remote_nodes.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace sma::volume {

using base::Context;
using base::MutexLock;
using base::TimePoint;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// The maximum number of restoring threads: for one node that answers, and in total.
constexpr int kThreadsPerNode = 8;
constexpr int kMaxThreads = 128;
// The pause after the first failed attempt; it is doubled with each further failure.
constexpr milliseconds kShortestPause{250};
constexpr milliseconds kLongestPause{10000};

milliseconds PauseAfter(int failures) {
  return std::min(kLongestPause, kShortestPause * (1 << std::min(failures - 1, 8)));
}

// An attempt that has had no answer for this long counts against the node even before it ends.
constexpr std::chrono::seconds kSuspicion{2};

}  // namespace

void RemoteNodes::Stop() {
  std::vector<Context> contexts;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    for (auto& [key, job] : jobs_) contexts.push_back(job->context);
    changed_.NotifyAll();
  }
  for (const Context& context : contexts) context.Cancel();
  MutexLock lock(mutex_);
  while (threads_ > 0) changed_.Wait(mutex_);
}

absl::Status RemoteNodes::DownError(const std::string& name, const Node& node) const {
  const auto now = steady_clock::now();
  using std::chrono::duration_cast;
  using std::chrono::seconds;
  return absl::UnavailableError(fmt::format(
      "storage node {} has not answered for {} s: {}; next attempt in {} s", name,
      duration_cast<seconds>(now - node.down_since).count(), node.reason,
      duration_cast<seconds>(std::max(node.next - now, steady_clock::duration(0))).count()));
}

absl::Status RemoteNodes::Admit(const std::string& name) const {
  MutexLock lock(mutex_);
  return AdmitLocked(name);
}

absl::StatusOr<RemoteNodes::Visit> RemoteNodes::BeginVisit(const std::string& name) {
  MutexLock lock(mutex_);
  if (absl::Status status = AdmitLocked(name); !status.ok()) return status;
  Node& node = nodes_[name];
  if (IsDown(node) && node.visits > 0) return DownError(name, node);
  if (node.visits++ == 0 && node.tried_since == TimePoint()) node.tried_since = steady_clock::now();
  return Visit(*this, name);
}

void RemoteNodes::EndVisit(const std::string& name) {
  MutexLock lock(mutex_);
  Node& node = nodes_[name];
  if (--node.visits == 0) node.tried_since = {};
  EraseIfIdle(name);
}

absl::Status RemoteNodes::AdmitLocked(const std::string& name) const {
  auto found = nodes_.find(name);
  if (found == nodes_.end()) return absl::OkStatus();
  const Node& node = found->second;
  const auto now = steady_clock::now();
  if (IsDown(node) && now < node.next) return DownError(name, node);
  const bool is_tried = node.tried_since != TimePoint() && !node.is_good;
  if (is_tried && now - node.tried_since > kSuspicion) {
    return absl::UnavailableError(
        fmt::format("storage node {} has not answered the connection attempt in progress", name));
  }
  return absl::OkStatus();
}

void RemoteNodes::Note(Node& node, const absl::Status& status) {
  // The target itself was unreachable, which says nothing about the node.
  if (absl::IsUnavailable(status) || absl::IsCancelled(status)) return;
  node.is_good = !absl::IsDeadlineExceeded(status);
  if (node.is_good) {
    node.failures = 0;
    return;
  }
  const auto now = steady_clock::now();
  if (node.failures++ == 0) node.down_since = now;
  node.next = now + PauseAfter(node.failures);
  node.reason = std::string(status.message());
}

void RemoteNodes::Report(const std::string& name, const absl::Status& status) {
  MutexLock lock(mutex_);
  Note(nodes_[name], status);
  EraseIfIdle(name);
  changed_.NotifyAll();
}

// Removes the entry of a node that is up or was last down long ago, if it is no longer in use.
void RemoteNodes::EraseIfIdle(const std::string& name) {
  auto found = nodes_.find(name);
  if (found == nodes_.end()) return;
  const Node& node = found->second;
  const bool forgets = !IsDown(node) || steady_clock::now() - node.next > kLongestPause;
  const bool is_idle = node.jobs.empty() && node.threads == 0 && node.visits == 0;
  if (is_idle && forgets) nodes_.erase(found);
}

absl::Status RemoteNodes::Restore(const std::string& name, const std::string& key, Attempt attempt,
                                  bool waits) {
  MutexLock lock(mutex_);
  if (stopping_) return absl::CancelledError("the agent is shutting down");
  const auto now = steady_clock::now();
  std::shared_ptr<Job>& known = jobs_[key];
  Node& node = nodes_[name];
  if (known == nullptr) {
    known = std::make_shared<Job>();
    known->node = name;
    known->attempt = std::move(attempt);
    known->objects = jsonrpc::CallScope::Current();
    if (node.jobs.empty() && !node.is_good) node.patient_until = now + kPatience;
    node.jobs.insert(key);
    StartThread(name, node);
    changed_.NotifyAll();
  }
  const std::shared_ptr<Job> job = known;
  TimePoint until = node.is_good ? now + kPatience : node.patient_until;
  if (!waits || (!node.is_good && now < impatient_until_)) until = now;
  while (!job->is_done && job->failures == 0 && !stopping_ && steady_clock::now() < until &&
         !IsDown(nodes_[name])) {
    changed_.WaitUntil(mutex_, until);
  }
  if (job->is_done) return absl::OkStatus();
  const bool in_vain = until > now && steady_clock::now() >= until;
  if (in_vain) impatient_until_ = steady_clock::now() + kImpatience;
  // The message must not change from call to call, because it is stored as the volume's last error.
  const Node& current = nodes_[name];
  if (IsDown(current)) {
    return absl::UnavailableError(
        fmt::format("storage node {} does not answer: {}", name, current.reason));
  }
  if (!job->last.ok()) {
    return absl::UnavailableError(
        fmt::format("storage node {}: {}; retrying", name, std::string(job->last.message())));
  }
  return absl::UnavailableError(
      fmt::format("storage node {} is being connected and has not answered yet", name));
}

bool RemoteNodes::IsRestoring(const std::string& key) const {
  MutexLock lock(mutex_);
  return jobs_.contains(key);
}

bool RemoteNodes::Cancel(const std::string& key) {
  std::shared_ptr<Job> job;
  {
    MutexLock lock(mutex_);
    auto found = jobs_.find(key);
    if (found == jobs_.end()) return false;
    job = found->second;
    job->is_cancelled = true;
    nodes_[job->node].jobs.erase(key);
    jobs_.erase(found);
    changed_.NotifyAll();
  }
  job->context.Cancel();
  MutexLock lock(mutex_);
  while (job->is_running) changed_.Wait(mutex_);
  EraseIfIdle(job->node);
  return true;
}

// A single thread connects to a node that is not known to answer; further threads are started once
// it answers.
void RemoteNodes::StartThread(const std::string& name, Node& node) {
  const int wanted = node.is_good ? kThreadsPerNode : 1;
  if (node.threads >= std::min<int>(wanted, static_cast<int>(node.jobs.size()))) return;
  if (threads_ >= kMaxThreads) return;
  ++node.threads;
  ++threads_;
  std::thread([this, name] { Run(name); }).detach();
}

// Returns null if there is nothing to do before `wake`.
std::shared_ptr<RemoteNodes::Job> RemoteNodes::NextJob(Node& node, std::string& key,
                                                       TimePoint& wake) {
  const auto now = steady_clock::now();
  wake = TimePoint::max();
  if (IsDown(node) && now < node.next) {
    wake = node.next;
    return nullptr;
  }
  const bool is_probe = !node.is_good;
  std::shared_ptr<Job> first;
  for (const std::string& candidate : node.jobs) {
    const std::shared_ptr<Job>& job = jobs_.at(candidate);
    if (job->is_running) {
      if (is_probe) return nullptr;
      continue;
    }
    if (job->next > now) {
      wake = std::min(wake, job->next);
    } else if (first == nullptr) {
      first = job;
      key = candidate;
    }
  }
  return first;
}

void RemoteNodes::Run(const std::string& name) {
  MutexLock lock(mutex_);
  while (!stopping_ && !nodes_[name].jobs.empty()) {
    std::string key;
    TimePoint wake;
    const std::shared_ptr<Job> job = NextJob(nodes_[name], key, wake);
    if (job == nullptr) {
      // One waiting thread is enough for a node.
      if (nodes_[name].threads > 1) break;
      changed_.WaitUntil(mutex_, wake);
      continue;
    }
    job->is_running = true;
    nodes_[name].tried_since = steady_clock::now();
    StartThread(name, nodes_[name]);
    RunJob(name, key, job);
  }
  --nodes_[name].threads;
  --threads_;
  EraseIfIdle(name);
  changed_.NotifyAll();
}

void RemoteNodes::RunJob(const std::string& name, const std::string& key,
                         const std::shared_ptr<Job>& job) {
  mutex_.Unlock();
  absl::Status status;
  {
    const jsonrpc::CallScope scope(job->objects);
    status = job->attempt(job->context.Child(steady_clock::now() + kAttemptTime));
  }
  mutex_.Lock();
  job->is_running = false;
  job->last = status;
  Node& node = nodes_[name];
  // This is also needed after a cancelled attempt, since no other attempt is admitted while one
  // seems to be in progress.
  node.tried_since = {};
  if (job->is_cancelled || stopping_) return changed_.NotifyAll();
  const bool was_down = IsDown(node);
  Note(node, status);
  if (!was_down && IsDown(node))
    spdlog::warn("storage node {}: does not answer, retrying: {}", name, node.reason);
  if (!status.ok()) {
    job->next = steady_clock::now() + PauseAfter(++job->failures);
    return changed_.NotifyAll();
  }
  job->is_done = true;
  node.jobs.erase(key);
  jobs_.erase(key);
  changed_.NotifyAll();
  mutex_.Unlock();
  if (on_restored_) on_restored_(key);
  mutex_.Lock();
}

}  // namespace sma::volume
