// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <utility>

#include "base/mutex.h"

namespace sma::service {

/// A limit on the number of messages that all streams together have queued. Each stream may use its
/// fair share of `max_queued` messages, and more while others use less. Thread-safe.
class QueueBudget {
 public:
  explicit QueueBudget(size_t max_queued) : max_queued_(max_queued) {}

  void AddStream() {
    base::MutexLock lock(mutex_);
    ++streams_;
  }
  void RemoveStream() {
    base::MutexLock lock(mutex_);
    --streams_;
  }
  /// Returns true if a stream with `queued` messages may queue another one, which is then counted.
  bool Take(size_t queued) {
    base::MutexLock lock(mutex_);
    if (queued_ >= max_queued_ && queued >= max_queued_ / streams_) return false;
    ++queued_;
    return true;
  }
  void Return(size_t messages) {
    base::MutexLock lock(mutex_);
    queued_ -= messages;
  }

 private:
  const size_t max_queued_;
  base::Mutex mutex_;
  size_t streams_ SMA_GUARDED_BY(mutex_) = 0;
  size_t queued_ SMA_GUARDED_BY(mutex_) = 0;
};

/// The response stream of a call: messages are queued and written one after another. The stream
/// starts held, so that its creator may use it until Open(). Owns itself and is destroyed by gRPC's
/// call of OnDone() after Open() and End().
template <typename Message>
// NOLINTNEXTLINE(cppcoreguidelines-virtual-class-destructor): the destructor is public and virtual
class EventStream : public grpc::ServerWriteReactor<Message> {
 public:
  /// At most `max_queued` messages that were sent after Open() may wait to be written, if `budget`
  /// permits; beyond that the stream ends with RESOURCE_EXHAUSTED. `budget` must outlive the
  /// stream.
  EventStream(size_t max_queued, QueueBudget& budget) : max_queued_(max_queued), budget_(budget) {
    budget_.AddStream();
  }
  ~EventStream() override {
    {
      base::MutexLock lock(mutex_);
      Drop();
    }
    budget_.RemoveStream();
  }

  /// Queues `message`, which is ignored after the stream has ended. Thread-safe, as long as the
  /// caller knows that the stream still exists.
  void Send(std::shared_ptr<const Message> message) {
    Step step;
    {
      base::MutexLock lock(mutex_);
      // Messages queued before Open() are counted, but not limited by `max_queued_`.
      const bool fits = !open_ || queue_.size() < max_queued_;
      if (!ending_ && fits && budget_.Take(queue_.size())) {
        queue_.push_back(std::move(message));
      } else if (!ending_) {
        SetEnd(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                            "the reader is too slow: changes were lost, start the stream again"));
        Drop();
      }
      step = NextStep();
    }
    Do(step);
  }

  /// Ends the stream with `status` and drops queued messages. Only the first end has an effect.
  /// Thread-safe under the same condition as Send().
  void End(grpc::Status status) {
    Step step;
    {
      base::MutexLock lock(mutex_);
      SetEnd(std::move(status));
      Drop();
      step = NextStep();
    }
    Do(step);
  }

  /// Like End(), but writes the queued messages first.
  void EndAfterQueued(grpc::Status status) {
    Step step;
    {
      base::MutexLock lock(mutex_);
      SetEnd(std::move(status));
      step = NextStep();
    }
    Do(step);
  }

  /// Starts writing messages, or the end. Called once; the caller must not use the stream
  /// afterwards.
  void Open() {
    Step step;
    {
      base::MutexLock lock(mutex_);
      open_ = true;
      step = NextStep();
    }
    Do(step);
  }

  void OnWriteDone(bool ok) final {
    Step step;
    {
      base::MutexLock lock(mutex_);
      writing_.reset();
      if (!ok) {
        SetEnd(grpc::Status::CANCELLED);
        Drop();
      }
      step = NextStep();
    }
    Do(step);
  }

  void OnCancel() override { End(grpc::Status::CANCELLED); }
  void OnDone() final { delete this; }

 protected:
  /// Returns the next message of the initial state, which is written before all messages passed to
  /// Send(); null after the last one. Called after Open(), by one thread at a time, with the
  /// stream's lock held.
  virtual std::shared_ptr<const Message> NextInitial() { return nullptr; }

 private:
  /// The step that the holder of the lock has to perform after releasing it. Only a thread with a
  /// step may use the stream then; for any other thread the stream may already be destroyed.
  struct Step {
    const Message* write = nullptr;
    bool finish = false;
  };

  void SetEnd(grpc::Status status) SMA_REQUIRES(mutex_) {
    if (ending_) return;
    ending_ = true;
    status_ = std::move(status);
  }

  void Drop() SMA_REQUIRES(mutex_) {
    budget_.Return(queue_.size());
    queue_.clear();
  }

  Step NextStep() SMA_REQUIRES(mutex_) {
    if (!open_ || writing_ || finished_) return {};
    if (!ending_ && !initial_done_) {
      writing_ = NextInitial();
      if (writing_) return {.write = writing_.get(), .finish = false};
      initial_done_ = true;
    }
    if (queue_.empty()) {
      finished_ = ending_;
      return {.write = nullptr, .finish = finished_};
    }
    writing_ = std::move(queue_.front());
    queue_.pop_front();
    budget_.Return(1);
    return {.write = writing_.get(), .finish = false};
  }

  void Do(const Step& step) {
    if (step.write != nullptr) this->StartWrite(step.write);
    if (step.finish) this->Finish(status_);
  }

  const size_t max_queued_;
  QueueBudget& budget_;
  base::Mutex mutex_;
  bool open_ SMA_GUARDED_BY(mutex_) = false;
  bool initial_done_ SMA_GUARDED_BY(mutex_) = false;
  bool ending_ SMA_GUARDED_BY(mutex_) = false;
  bool finished_ SMA_GUARDED_BY(mutex_) = false;
  std::deque<std::shared_ptr<const Message>> queue_ SMA_GUARDED_BY(mutex_);
  std::shared_ptr<const Message> writing_ SMA_GUARDED_BY(mutex_);
  grpc::Status status_;  // written once, before `ending_`
};

}  // namespace sma::service
