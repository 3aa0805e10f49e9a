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

// Threads that restore connections: to one node that answers, and in all.
constexpr int kThreadsPerNode = 8;
constexpr int kMaxThreads = 128;
// After an attempt that failed, doubled with each.
constexpr milliseconds kShortestPause{250};
constexpr milliseconds kLongestPause{10000};

milliseconds PauseAfter(int failures) {
  return std::min(kLongestPause, kShortestPause * (1 << std::min(failures - 1, 8)));
}

// An attempt that is not answered for so long counts against the node before it has ended.
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
  auto found = nodes_.find(name);
  if (found == nodes_.end()) return absl::OkStatus();
  const Node& node = found->second;
  const auto now = steady_clock::now();
  if (IsDown(node) && now < node.next) return DownError(name, node);
  const bool is_tried = node.tried_since != TimePoint() && !node.is_good;
  if (is_tried && now - node.tried_since > kSuspicion) {
    return absl::UnavailableError(
        fmt::format("storage node {} does not answer an attempt that is under way", name));
  }
  return absl::OkStatus();
}

void RemoteNodes::Note(Node& node, const absl::Status& status) {
  // A target that is not reachable says nothing of the node.
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

// What is known of a node that is up is nothing to be kept.
void RemoteNodes::EraseIfIdle(const std::string& name) {
  auto found = nodes_.find(name);
  if (found == nodes_.end()) return;
  const Node& node = found->second;
  const bool forgets = !IsDown(node) || steady_clock::now() - node.next > kLongestPause;
  if (node.jobs.empty() && node.threads == 0 && forgets) nodes_.erase(found);
}

absl::Status RemoteNodes::Restore(const std::string& name, const std::string& key, Attempt attempt,
                                  bool waits) {
  MutexLock lock(mutex_);
  if (stopping_) return absl::UnavailableError("the agent is being stopped");
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
  if (!waits) until = now;
  while (!job->is_done && job->failures == 0 && !stopping_ && steady_clock::now() < until &&
         !IsDown(nodes_[name])) {
    changed_.WaitUntil(mutex_, until);
  }
  if (job->is_done) return absl::OkStatus();
  // Always the same text: it is kept as the volume's error.
  const Node& current = nodes_[name];
  if (IsDown(current)) {
    return absl::UnavailableError(
        fmt::format("storage node {} does not answer: {}", name, current.reason));
  }
  if (!job->last.ok()) {
    return absl::UnavailableError(fmt::format("storage node {}: {}; it is tried again", name,
                                              std::string(job->last.message())));
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

// One thread tries a node that is not known to answer; others help when it does.
void RemoteNodes::StartThread(const std::string& name, Node& node) {
  const int wanted = node.is_good ? kThreadsPerNode : 1;
  if (node.threads >= std::min<int>(wanted, static_cast<int>(node.jobs.size()))) return;
  if (threads_ >= kMaxThreads) return;
  ++node.threads;
  ++threads_;
  std::thread([this, name] { Run(name); }).detach();
}

// Null: there is nothing to do before `wake`.
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
      // One thread is enough to wait.
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
  if (job->is_cancelled || stopping_) return changed_.NotifyAll();
  Node& node = nodes_[name];
  const bool was_down = IsDown(node);
  node.tried_since = {};
  Note(node, status);
  if (!was_down && IsDown(node)) spdlog::warn("storage node {}: {}", name, node.reason);
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
