// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "storage_target/bdev_modules/nvme/initiator/queue_pair.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::initiator {

/// A queue pair that is driven by a reactor: requests submitted in a round of the event loop are
/// sent together at its end. Created, used and destroyed on the reactor's thread.
class ReactorQueuePair : private FdHandler {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnQueueReady(ReactorQueuePair& queue) = 0;
    /// Called when the connection could not be established or was lost; queue_pair().close_reason()
    /// has the reason. Every request has ended, except the held ones (QueuePair::Close). The queue
    /// pair may be destroyed in this callback, which also ends the held requests. Not called after
    /// the owner's own Close.
    virtual void OnQueueClosed(ReactorQueuePair& queue) = 0;
    /// Called when the held requests of a closed queue pair have ended, because the remote side has
    /// closed the connection or the time of EndHeldAfter has passed. The queue pair may be
    /// destroyed in this callback.
    virtual void OnHeldEnded(ReactorQueuePair& /*queue*/) {}
  };
  struct Timeouts {
    std::chrono::milliseconds connect{10000};  // until it is ready; 0: none
    /// The connection is closed if a command other than an Asynchronous Event Request takes longer
    /// than this; if 0, it is not closed for this reason.
    std::chrono::milliseconds command{0};
  };

  ReactorQueuePair(Reactor& reactor, const QueuePair::Options& options, const Timeouts& timeouts,
                   Owner& owner);
  /// Ends outstanding requests like QueuePair::Close.
  ~ReactorQueuePair() override;

  /// Starts connecting. The owner is notified of the result later.
  void Start();

  /// Like QueuePair::Submit; the command is sent at the end of the round.
  bool Submit(Request& request);

  /// Same contracts as QueuePair::Abort and EndAbort.
  QueuePair::AbortResult Abort(Request& request, uint16_t* cid) {
    return queue_pair_.Abort(request, cid);
  }
  void EndAbort(uint16_t cid);

  void Close(const std::string& reason);

  /// Returns true if the queue pair is closed and holds requests.
  bool holding() const { return queue_pair_.held() > 0; }
  /// Ends the held requests after this time, if they have not ended before.
  void EndHeldAfter(std::chrono::milliseconds time);
  /// Same contract as QueuePair::FailHeld. OnHeldEnded is not called.
  void FailHeld(const std::function<bool(const Request& request)>& which, nvme::Status status) {
    queue_pair_.FailHeld(which, status);
  }

  const QueuePair& queue_pair() const { return queue_pair_; }
  bool ready() const { return queue_pair_.ready(); }

 private:
  struct Flusher : Deferred {
    ReactorQueuePair* queue = nullptr;
  };
  // Number of ticks in one command timeout.
  static constexpr uint32_t kTicksPerTimeout = 4;

  void OnFdReady(uint32_t events) override;
  static void RunFlusher(Deferred& deferred);
  void Advance();
  void AwaitPeer();
  void WatchPeer();
  void UpdateWatch();
  void Unwatch();
  void UnwatchSocket();
  void StartTicking();
  void OnTick();

  Reactor& reactor_;
  QueuePair queue_pair_;
  const Timeouts timeouts_;
  Owner& owner_;
  std::unique_ptr<Flusher> flusher_;
  uint32_t watched_events_ = 0;
  bool told_ready_ = false;
  bool ended_ = false;          // closed, and the owner has been notified
  Reactor::TimerId timer_ = 0;  // connecting: the timeout; later: ticks; closed: EndHeldAfter
};

}  // namespace sma::storage_target::initiator
