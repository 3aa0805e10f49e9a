#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/call_scope.h"

namespace sma::volume {

/// The storage nodes that volumes are connected to by calls that wait for the node: NVMe-oF
/// subsystems without a discovery service, and iSCSI. Each node, known by its address, is a failure
/// domain: while it does not answer, calls for it end at once with the reason, its connections are
/// restored in the background by threads of its own, and no other node is affected. Thread-safe.
class RemoteNodes {
 public:
  /// How long an attempt may take.
  static constexpr std::chrono::seconds kAttemptTime{10};
  /// A node that has not answered for this long is taken for down. Nobody waits for it any longer.
  static constexpr std::chrono::milliseconds kPatience{200};

  /// Connects; blocks for as long as the context allows. DEADLINE_EXCEEDED: the node did not
  /// answer. UNAVAILABLE: the target was not reachable. Any other error: the node refused.
  using Attempt = std::function<absl::Status(const base::Context&)>;

  RemoteNodes() = default;
  ~RemoteNodes() { Stop(); }
  RemoteNodes(const RemoteNodes&) = delete;
  RemoteNodes& operator=(const RemoteNodes&) = delete;

  /// Called with the key of each connection that was restored in the background, in any thread.
  /// Set it before other threads use this.
  void SetOnRestored(std::function<void(const std::string& key)> on_restored) {
    on_restored_ = std::move(on_restored);
  }

  /// Ends all attempts. Nothing is restored, and the callback is not called, any more.
  void Stop();

  /// OK: an attempt for `node` may be made. UNAVAILABLE: it did not answer lately; the message says
  /// since when and why, and when the next attempt is allowed.
  absl::Status Admit(const std::string& node) const;
  /// What came of an attempt that the caller made by itself.
  void Report(const std::string& node, const absl::Status& status);

  /// Has the connection `key` restored by `attempt`, again and again with growing pauses until it
  /// succeeds or Cancel(key). If `waits`, waits for the first attempt, for kPatience at most. OK:
  /// it is connected. UNAVAILABLE: it is being connected in the background; the message has the
  /// error of the last attempt. Idempotent.
  absl::Status Restore(const std::string& node, const std::string& key, Attempt attempt,
                       bool waits = true);
  /// Whether the connection is being restored.
  bool IsRestoring(const std::string& key) const;
  /// Ends the attempts for `key`, one that is under way as well, and waits for that. False: there
  /// were none.
  bool Cancel(const std::string& key);

 private:
  struct Job {
    std::string node;
    Attempt attempt;
    jsonrpc::CallObjects objects;  // that it is about
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
    bool is_good = false;          // answered last time
    int failures = 0;              // attempts without an answer, one after the other
    base::TimePoint down_since{};  // of the first of these
    base::TimePoint next{};        // no attempt before
    base::TimePoint patient_until{};
    base::TimePoint tried_since{};  // of the attempt that is under way; zero: none
    std::string reason;
  };

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
  std::map<std::string, Node> nodes_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<Job>> jobs_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
