#pragma once

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <utility>

#include "base/mutex.h"

namespace sma::service {

/// The answer of a call that streams: messages are queued and written one after another. Begins
/// held, so that whoever prepares it may use it until Open(). Owns itself: gRPC ends it with
/// OnDone(), after Open() and End().
template <typename Message>
class EventStream : public grpc::ServerWriteReactor<Message> {
 public:
  /// What is sent after Open() and not written yet may be `max_queued` messages; then the stream
  /// ends with RESOURCE_EXHAUSTED.
  explicit EventStream(size_t max_queued) : max_queued_(max_queued) {}

  /// Nothing after the end. Thread-safe, as long as the caller knows the stream alive.
  void Send(std::shared_ptr<const Message> message) {
    Step step;
    {
      base::MutexLock lock(mutex_);
      if (open_ && queue_.size() >= max_queued_) {
        SetEnd(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "the reader is too slow"));
        queue_.clear();
      } else if (!ending_) {
        queue_.push_back(std::move(message));
      }
      step = NextStep();
    }
    Do(step);
  }

  /// Ends the stream with `status`; what is queued is dropped. The first end gives the status. As
  /// for Send().
  void End(grpc::Status status) {
    Step step;
    {
      base::MutexLock lock(mutex_);
      SetEnd(std::move(status));
      queue_.clear();
      step = NextStep();
    }
    Do(step);
  }

  /// As End(), but what is queued is written before.
  void EndAfterQueued(grpc::Status status) {
    Step step;
    {
      base::MutexLock lock(mutex_);
      SetEnd(std::move(status));
      step = NextStep();
    }
    Do(step);
  }

  /// Lets the messages, or the end, go out. Once; whoever called it has no claim to the stream
  /// after.
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
        queue_.clear();
      }
      step = NextStep();
    }
    Do(step);
  }

  void OnCancel() override { End(grpc::Status::CANCELLED); }
  void OnDone() final { delete this; }

 protected:
  /// What goes out before all that is sent, a message each time the reader can take one; null:
  /// there is no more. Called from Open() on, by one thread at a time, with the stream's lock held.
  virtual std::shared_ptr<const Message> NextInitial() { return nullptr; }

 private:
  /// What the lock's holder has to do once it has let go of it. Only one that has something to do
  /// may touch the stream then: to any other it may be gone.
  struct Step {
    const Message* write = nullptr;
    bool finish = false;
  };

  void SetEnd(grpc::Status status) SMA_REQUIRES(mutex_) {
    if (ending_) return;
    ending_ = true;
    status_ = std::move(status);
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
    return {.write = writing_.get(), .finish = false};
  }

  void Do(const Step& step) {
    if (step.write != nullptr) this->StartWrite(step.write);
    if (step.finish) this->Finish(status_);
  }

  const size_t max_queued_;
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
