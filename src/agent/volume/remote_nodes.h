// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/call_scope.h"

namespace sma::volume {

/// The storage nodes to which volumes are connected over NVMe-oF, directly or through discovery
/// services, or over iSCSI. Each node is identified by its address and is a failure domain: while
/// it does not answer, calls for it fail immediately with the reason, its own threads restore its
/// connections in the background, and no other node is affected. Thread-safe.
class RemoteNodes {
 public:
  /// The time limit of an attempt.
  static constexpr std::chrono::seconds kAttemptTime{10};
  /// A node that has not answered for this long is considered down: calls no longer wait for it.
  static constexpr std::chrono::milliseconds kPatience{200};

  /// An attempt that took at least this long may have had no answer, whatever the target says.
  static constexpr std::chrono::seconds kSilence{1};
  /// After a wait in vain, calls do not wait for other nodes for this long. Thus a device with
  /// volumes on many such nodes, which are restored one after the other, does not wait for each.
  static constexpr std::chrono::seconds kImpatience{1};

  /// A function that connects; it blocks until its context ends at the latest. Returns
  /// DEADLINE_EXCEEDED if the node did not answer, UNAVAILABLE if the target was not reachable, any
  /// other error if the node refused.
  using Attempt = std::function<absl::Status(const base::Context&)>;

  RemoteNodes() = default;
  ~RemoteNodes() { Stop(); }
  RemoteNodes(const RemoteNodes&) = delete;
  RemoteNodes& operator=(const RemoteNodes&) = delete;

  /// `on_restored` is called, on any thread, with the key of each connection that was restored in
  /// the background. Call this before other threads use this object.
  void SetOnRestored(std::function<void(const std::string& key)> on_restored) {
    on_restored_ = std::move(on_restored);
  }

  /// Ends all attempts and waits for them. Afterwards nothing is restored and the callback is not
  /// called.
  void Stop();

  /// An attempt that the caller itself makes, which lasts as long as this object exists. During an
  /// attempt for a node that is not known to be up, other attempts are refused after a short time.
  class Visit {
   public:
    Visit(RemoteNodes& nodes, std::string node) : nodes_(&nodes), node_(std::move(node)) {}
    Visit(Visit&& other) noexcept : nodes_(std::exchange(other.nodes_, nullptr)) {
      node_ = std::move(other.node_);
    }
    Visit& operator=(Visit&& other) noexcept {
      std::swap(nodes_, other.nodes_);
      std::swap(node_, other.node_);
      return *this;
    }
    ~Visit() {
      if (nodes_ != nullptr) nodes_->EndVisit(node_);
    }

   private:
    RemoteNodes* nodes_;
    std::string node_;
  };
  /// Like Admit, and begins an attempt. A node that is down gets one attempt at a time.
  absl::StatusOr<Visit> BeginVisit(const std::string& node);

  /// Returns OK if an attempt for `node` may be made; UNAVAILABLE if the node has not answered
  /// recently. The message says since when and why, and when the next attempt is allowed.
  absl::Status Admit(const std::string& node) const;
  /// Reports the result of an attempt that the caller made itself.
  void Report(const std::string& node, const absl::Status& status);

  /// Restores the connection `key` in the background: repeats `attempt`, with growing pauses, until
  /// it succeeds or Cancel(key) is called. If `waits` is set, waits up to kPatience for the first
  /// attempt. Returns OK if the connection is established, otherwise UNAVAILABLE with the error of
  /// the last attempt in the message. Idempotent.
  absl::Status Restore(const std::string& node, const std::string& key, Attempt attempt,
                       bool waits = true);
  /// Returns true while the connection is being restored.
  bool IsRestoring(const std::string& key) const;
  /// Ends the attempts for `key`, and waits for one that is in progress. Returns false if there
  /// were none.
  bool Cancel(const std::string& key);

 private:
  struct Job {
    std::string node;
    Attempt attempt;
    jsonrpc::CallObjects objects;  // for jsonrpc::CallScope
    base::Context context = base::Context::Background();
    bool is_running = false;
    bool is_cancelled = false;
    bool is_done = false;
    int failures = 0;
    base::TimePoint next{};
    absl::Status last;
  };
  struct Node {
    std::set<std::string> jobs;  // keys
    int threads = 0;
    int visits = 0;
    bool is_good = false;          // the last attempt was answered
    int failures = 0;              // consecutive attempts without an answer
    base::TimePoint down_since{};  // time of the first of these
    base::TimePoint next{};        // earliest time of the next attempt
    base::TimePoint patient_until{};
    base::TimePoint tried_since{};  // start of the attempt in progress; zero: none
    std::string reason;
  };

  absl::Status AdmitLocked(const std::string& name) const SMA_REQUIRES(mutex_);
  void EndVisit(const std::string& name);
  static bool IsDown(const Node& node) { return node.failures > 0; }
  absl::Status DownError(const std::string& name, const Node& node) const;
  void Note(Node& node, const absl::Status& status) SMA_REQUIRES(mutex_);
  void StartThread(const std::string& name, Node& node) SMA_REQUIRES(mutex_);
  void Run(const std::string& name);
  std::shared_ptr<Job> NextJob(Node& node, std::string& key, base::TimePoint& wake)
      SMA_REQUIRES(mutex_);
  void RunJob(const std::string& name, const std::string& key, const std::shared_ptr<Job>& job)
      SMA_REQUIRES(mutex_);
  void EraseIfIdle(const std::string& name) SMA_REQUIRES(mutex_);

  std::function<void(const std::string& key)> on_restored_;
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  int threads_ SMA_GUARDED_BY(mutex_) = 0;
  // Until then, Restore does not wait for further nodes: one has just not answered in time.
  base::TimePoint impatient_until_ SMA_GUARDED_BY(mutex_){};
  std::map<std::string, Node> nodes_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<Job>> jobs_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
