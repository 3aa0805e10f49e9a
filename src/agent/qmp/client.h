// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/qmp/address.h"
#include "agent/qmp/message.h"
#include "base/context.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "jsonrpc/splitter.h"

namespace sma::qmp {

struct ClientOptions {
  Address address{};
  /// How long a call waits for a connection; its context may end the wait sooner.
  std::chrono::nanoseconds connect_wait = std::chrono::seconds(2);
  /// How long to wait for QEMU's greeting, which QEMU does not send while it serves another client.
  std::chrono::nanoseconds greeting_wait = std::chrono::seconds(2);
  std::chrono::nanoseconds retry_pause = std::chrono::milliseconds(100);
  /// A QEMU that does not answer a command within this time is mute: its session is closed, and
  /// calls fail immediately for `mute_pause`, which doubles each time up to `max_mute_pause` until
  /// QEMU answers again.
  std::chrono::nanoseconds answer_wait = std::chrono::seconds(8);
  std::chrono::nanoseconds mute_pause = std::chrono::seconds(2);
  std::chrono::nanoseconds max_mute_pause = std::chrono::seconds(30);
  /// A session that is unused for this time is closed, because QEMU serves one client at a time.
  std::chrono::nanoseconds idle_time = std::chrono::seconds(1);
  size_t max_message_bytes = 16 * 1024 * 1024;
};

/// A QMP client of one QEMU. All callers share one session, which the client's own thread opens
/// when a call or a watch needs it. Commands are pipelined and QEMU executes them in order; answers
/// are matched by id. Thread-safe.
class Client {
 public:
  explicit Client(ClientOptions options);
  /// No call may be in progress on another thread.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  const Address& address() const { return options_.address; }

  /// Waits for a session and returns QEMU's greeting. Returns CANCELLED, DEADLINE_EXCEEDED or
  /// UNAVAILABLE if there is none.
  absl::StatusOr<Greeting> WaitConnected(const base::Context& context);

  /// Sends all `commands` and waits for all answers; returns one result for each command. An error
  /// is that of QEMU (GetError); UNAVAILABLE if there is no session, the session was lost while
  /// waiting, or QEMU is mute; or CANCELLED or DEADLINE_EXCEEDED if `context` ended first.
  /// jsonrpc::IsFateUnknown returns true if QEMU may still have executed the command.
  std::vector<absl::StatusOr<Json>> ExecuteMany(const base::Context& context,
                                                std::span<const Command> commands);
  absl::StatusOr<Json> Execute(const base::Context& context, Command command);

  /// Returns the time of the first of the attempts to connect that have failed in a row; nullopt if
  /// the last attempt succeeded or none was made.
  std::optional<base::TimePoint> unreachable_since() const;
  /// Returns the time since which nothing has been listening at the address: QEMU is not running,
  /// as opposed to not answering or serving another client. nullopt if a process was listening at
  /// the last attempt, or none was made.
  std::optional<base::TimePoint> gone_since() const;

  /// Collects the events with the given names from its construction on, so that an event that
  /// arrives before the answer to the command that causes it is not missed. Keeps the session open.
  /// Not thread-safe.
  class EventWatch {
   public:
    EventWatch(Client& client, std::set<std::string> names);
    ~EventWatch();
    EventWatch(const EventWatch&) = delete;
    EventWatch& operator=(const EventWatch&) = delete;

    /// Waits for the next event, in the order of arrival. Returns UNAVAILABLE if the session was
    /// lost, so that events may have been missed, and CANCELLED or DEADLINE_EXCEEDED if `context`
    /// ended.
    absl::StatusOr<Event> Next(const base::Context& context);

   private:
    friend class Client;
    Client& client_;
    const std::set<std::string> names_;
    std::deque<Event> events_;  // guarded by the client's mutex, as is lost_
    bool lost_ = false;
  };

 private:
  /// The commands of one ExecuteMany in progress.
  struct Call {
    std::span<const Command> commands;
    std::vector<absl::StatusOr<Json>> results;
    size_t open = 0;  // commands without a result
  };
  struct Pending {
    Call* call;
    size_t index;
  };
  enum class Stage { kGreeting, kNegotiation, kReady };

  // Implemented in client.cc; run on the callers' threads.
  void Enter() SMA_EXCLUDES(mutex_);
  void Leave() SMA_EXCLUDES(mutex_);
  absl::Status WaitForSession(const base::Context& context) SMA_REQUIRES(mutex_);
  void Send(Call& call) SMA_REQUIRES(mutex_);
  void Await(const base::Context& context, Call& call) SMA_REQUIRES(mutex_);
  void GiveUp(Call& call, const absl::Status& reason) SMA_REQUIRES(mutex_);
  void MarkMute() SMA_REQUIRES(mutex_);
  void End(uint64_t id, absl::StatusOr<Json> result) SMA_REQUIRES(mutex_);
  void NotifyAll() SMA_EXCLUDES(mutex_);
  void Wake();

  // Implemented in client_thread.cc; run on the client's own thread.
  void Run();
  bool WaitForUser() SMA_EXCLUDES(mutex_);
  void Pause() SMA_EXCLUDES(mutex_);
  absl::Status Serve(base::UniqueFd socket);
  absl::Status ServeUntilEnd(int socket);
  absl::Status Receive(int socket, jsonrpc::Splitter& input, Stage& stage);
  absl::Status Take(Message message, Stage& stage) SMA_REQUIRES(mutex_);
  void TakeEvent(const Event& event) SMA_REQUIRES(mutex_);
  bool EndWhenIdle() SMA_EXCLUDES(mutex_);
  void Disconnect(const absl::Status& reason) SMA_EXCLUDES(mutex_);
  void RecordFailure(const absl::Status& reason, bool is_gone) SMA_EXCLUDES(mutex_);

  const ClientOptions options_;
  const base::UniqueFd wake_;  // notifies the thread of a change of stopping_ or users_

  mutable base::Mutex mutex_;
  base::CondVar changed_;  // signalled on changes of the state below
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  int users_ SMA_GUARDED_BY(mutex_) = 0;  // calls and watches
  bool connected_ SMA_GUARDED_BY(mutex_) = false;
  base::UniqueFd socket_ SMA_GUARDED_BY(mutex_);
  Greeting greeting_ SMA_GUARDED_BY(mutex_);
  absl::Status last_error_ SMA_GUARDED_BY(mutex_) = absl::UnavailableError("not tried yet");
  std::optional<base::TimePoint> unreachable_since_ SMA_GUARDED_BY(mutex_);
  std::optional<base::TimePoint> gone_since_ SMA_GUARDED_BY(mutex_);
  // 0 if QEMU answered the last command.
  std::chrono::nanoseconds mute_pause_ SMA_GUARDED_BY(mutex_){0};
  base::TimePoint mute_until_ SMA_GUARDED_BY(mutex_);
  uint64_t next_id_ SMA_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, Pending> pending_ SMA_GUARDED_BY(mutex_);  // by id
  std::set<EventWatch*> watches_ SMA_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace sma::qmp
