// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "jsonrpc/client.h"
#include "jsonrpc/pending_calls.h"
#include "jsonrpc/splitter.h"

namespace sma::jsonrpc {

/// The implementation of Client: the functions that run on the callers' threads, and those that run
/// on its own thread.
class Client::Impl {
 public:
  explicit Impl(ClientOptions options);

  void Start() { thread_ = std::thread(&Impl::Run, this); }
  void Stop();
  std::vector<absl::StatusOr<Json>> CallMany(const base::Context& context,
                                             std::span<const Request> requests);
  absl::Status WaitConnected(const base::Context& context);
  uint64_t generation() const { return generation_; }
  bool connected() const {
    base::MutexLock lock(mutex_);
    return connected_;
  }
  ClientStats stats() const {
    base::MutexLock lock(mutex_);
    return calls_.stats();
  }
  bool MayActLate(std::span<const std::string> objects, std::chrono::nanoseconds after_loss) const {
    base::MutexLock lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    return calls_.late().Any(objects, now, after_loss, options_.max_answer_time);
  }

 private:
  // Run on the callers' threads.
  absl::Status WaitForConnection(const base::Context& context, base::TimePoint until)
      SMA_REQUIRES(mutex_);
  absl::Status Send(const base::Context& context, std::string text, CallGroup& group);
  void Await(const base::Context& context, CallGroup& group);
  void Flush() SMA_REQUIRES(mutex_);
  void Wake();

  // Run on the client's own thread.
  void Run();
  void Serve(base::UniqueFd socket);
  absl::Status ServeUntilBroken(int socket);
  absl::Status Receive(int socket, Splitter& input);
  void Disconnect(const absl::Status& reason);
  void FailToConnect(const absl::Status& reason) SMA_EXCLUDES(mutex_);
  bool PauseBeforeRetry();

  const ClientOptions options_;
  const base::UniqueFd wake_;  // notifies the thread that stopping_ or watch_output_ was set
  std::thread thread_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<uint64_t> next_id_{1};

  mutable base::Mutex mutex_;
  base::CondVar state_changed_;  // connected_, stopping_, or a waiting caller's context
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  bool connected_ SMA_GUARDED_BY(mutex_) = false;
  bool watch_output_ SMA_GUARDED_BY(mutex_) = false;  // the socket's buffer is full
  absl::Status last_error_ SMA_GUARDED_BY(mutex_) =
      absl::UnavailableError("no attempt to connect yet");
  base::UniqueFd socket_ SMA_GUARDED_BY(mutex_);
  PendingCalls calls_ SMA_GUARDED_BY(mutex_);

  // Used by the client's own thread only.
  std::chrono::nanoseconds backoff_ = options_.min_backoff;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace sma::jsonrpc
