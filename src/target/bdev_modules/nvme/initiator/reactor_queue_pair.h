#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "target/bdev_modules/nvme/initiator/queue_pair.h"
#include "target/reactor/reactor.h"

namespace sma::target::initiator {

/// A queue pair that a reactor drives: what is submitted in a round of the loop is sent together at
/// its end. Made, used and destroyed in the reactor's thread.
class ReactorQueuePair : private FdHandler {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnQueueReady(ReactorQueuePair& queue) = 0;
    /// The connection could not be made or was lost; queue_pair().close_reason() says why. Every
    /// request has ended. The queue pair may be destroyed in here. Not called for the owner's own
    /// Close.
    virtual void OnQueueClosed(ReactorQueuePair& queue) = 0;
  };
  struct Timeouts {
    std::chrono::milliseconds connect{10000};  // until it is ready; 0: none
    /// The connection is given up when a command takes longer, Asynchronous Event Requests aside;
    /// 0: never.
    std::chrono::milliseconds command{0};
  };

  ReactorQueuePair(Reactor& reactor, const QueuePair::Options& options, const Timeouts& timeouts,
                   Owner& owner);
  /// Ends requests under way as QueuePair::Close does.
  ~ReactorQueuePair() override;

  /// Begins to connect. The owner is told later how it went.
  void Start();

  /// As QueuePair::Submit; sends at the end of the round.
  bool Submit(Request& request);

  /// As QueuePair::Abort and EndAbort.
  QueuePair::AbortResult Abort(Request& request, uint16_t* cid) {
    return queue_pair_.Abort(request, cid);
  }
  void EndAbort(uint16_t cid);

  void Close(const std::string& reason);

  const QueuePair& queue_pair() const { return queue_pair_; }
  bool ready() const { return queue_pair_.ready(); }

 private:
  struct Flusher : Deferred {
    ReactorQueuePair* queue = nullptr;
  };
  // Ticks in one command time-out.
  static constexpr uint32_t kTicksPerTimeout = 4;

  void OnFdReady(uint32_t events) override;
  static void RunFlusher(Deferred& deferred);
  void Advance();
  void UpdateWatch();
  void Unwatch();
  void StartTicking();
  void OnTick();

  Reactor& reactor_;
  QueuePair queue_pair_;
  const Timeouts timeouts_;
  Owner& owner_;
  std::unique_ptr<Flusher> flusher_;
  uint32_t watched_events_ = 0;
  bool told_ready_ = false;
  bool ended_ = false;          // closed, and the owner knows
  Reactor::TimerId timer_ = 0;  // connecting: its limit; then: ticks
};

}  // namespace sma::target::initiator
