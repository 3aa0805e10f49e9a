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
  /// How long a call waits for a connection when there is none; its context may end the wait
  /// sooner.
  std::chrono::nanoseconds connect_wait = std::chrono::seconds(2);
  /// How long QEMU may take to greet: it does not while it serves another client.
  std::chrono::nanoseconds greeting_wait = std::chrono::seconds(2);
  std::chrono::nanoseconds retry_pause = std::chrono::milliseconds(100);
  /// A QEMU that has not answered a command after this time is mute: its session is closed, and
  /// calls fail at once for `mute_pause`, which doubles each time up to `max_mute_pause` until it
  /// answers again.
  std::chrono::nanoseconds answer_wait = std::chrono::seconds(8);
  std::chrono::nanoseconds mute_pause = std::chrono::seconds(2);
  std::chrono::nanoseconds max_mute_pause = std::chrono::seconds(30);
  /// A session that nobody uses is closed after this time, because QEMU serves one at a time.
  std::chrono::nanoseconds idle_time = std::chrono::seconds(1);
  size_t max_message_bytes = 16 * 1024 * 1024;
};

/// A client of one QEMU. All callers share one session, which a thread of its own opens when there
/// is something to do. Commands are pipelined, QEMU executes them in order; answers are matched by
/// id. Thread-safe.
class Client {
 public:
  explicit Client(ClientOptions options);
  /// No call may be in progress in another thread.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  const Address& address() const { return options_.address; }

  /// Waits for a session; what QEMU said of itself. CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE.
  absl::StatusOr<Greeting> WaitConnected(const base::Context& context);

  /// Sends all of `commands` and waits for all answers; one result for each. Errors: what QEMU
  /// answered (GetError) · UNAVAILABLE: no session, it was lost while waiting, or QEMU is mute ·
  /// CANCELLED, DEADLINE_EXCEEDED: `context` ended first. jsonrpc::IsFateUnknown tells whether QEMU
  /// may have executed the command all the same.
  std::vector<absl::StatusOr<Json>> ExecuteMany(const base::Context& context,
                                                std::span<const Command> commands);
  absl::StatusOr<Json> Execute(const base::Context& context, Command command);

  /// Since when every attempt to connect has failed; nullopt when the last one succeeded or none
  /// was made.
  std::optional<base::TimePoint> unreachable_since() const;

  /// Keeps the events of one name from its construction on, so that one that comes before the
  /// answer to the command that causes it is seen. Keeps the session open. Used by one thread.
  class EventWatch {
   public:
    EventWatch(Client& client, std::set<std::string> names);
    ~EventWatch();
    EventWatch(const EventWatch&) = delete;
    EventWatch& operator=(const EventWatch&) = delete;

    /// The next event, in the order in which they came. UNAVAILABLE: the session was lost, so that
    /// events may have been missed. CANCELLED, DEADLINE_EXCEEDED.
    absl::StatusOr<Event> Next(const base::Context& context);

   private:
    friend class Client;
    Client& client_;
    const std::set<std::string> names_;
    std::deque<Event> events_;  // guarded by the client's mutex, as is lost_
    bool lost_ = false;
  };

 private:
  /// The commands of one ExecuteMany on their way.
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

  // client.cc: in the callers' threads.
  void Enter() SMA_EXCLUDES(mutex_);
  void Leave() SMA_EXCLUDES(mutex_);
  absl::Status WaitForSession(const base::Context& context) SMA_REQUIRES(mutex_);
  void Send(Call& call) SMA_REQUIRES(mutex_);
  void Await(const base::Context& context, Call& call) SMA_REQUIRES(mutex_);
  void GiveUp(Call& call, const absl::Status& reason) SMA_REQUIRES(mutex_);
  void NoteMute() SMA_REQUIRES(mutex_);
  void End(uint64_t id, absl::StatusOr<Json> result) SMA_REQUIRES(mutex_);
  void NotifyAll() SMA_EXCLUDES(mutex_);
  void Wake();

  // client_thread.cc: in the client's own thread.
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
  void RecordFailure(const absl::Status& reason) SMA_EXCLUDES(mutex_);

  const ClientOptions options_;
  const base::UniqueFd wake_;  // tells the thread that stopping_ or users_ changed

  mutable base::Mutex mutex_;
  base::CondVar changed_;  // any of the state below
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  int users_ SMA_GUARDED_BY(mutex_) = 0;  // calls and watches
  bool connected_ SMA_GUARDED_BY(mutex_) = false;
  base::UniqueFd socket_ SMA_GUARDED_BY(mutex_);
  Greeting greeting_ SMA_GUARDED_BY(mutex_);
  absl::Status last_error_ SMA_GUARDED_BY(mutex_) = absl::UnavailableError("not tried yet");
  std::optional<base::TimePoint> unreachable_since_ SMA_GUARDED_BY(mutex_);
  std::chrono::nanoseconds mute_pause_ SMA_GUARDED_BY(mutex_){
      0};  // 0: it answered the last command
  base::TimePoint mute_until_ SMA_GUARDED_BY(mutex_);
  uint64_t next_id_ SMA_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, Pending> pending_ SMA_GUARDED_BY(mutex_);  // by id
  std::set<EventWatch*> watches_ SMA_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace sma::qmp
