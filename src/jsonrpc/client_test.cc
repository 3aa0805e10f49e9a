#include "jsonrpc/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <optional>
#include <thread>

#include "jsonrpc/error.h"
#include "jsonrpc/server_thread.h"
#include "jsonrpc/splitter.h"
#include "jsonrpc/unix_listener.h"

namespace sma::jsonrpc {
namespace {

using base::Context;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

class ClientTest : public testing::Test {
 protected:
  ClientTest() {
    dir_ =
        std::filesystem::temp_directory_path() / ("jsonrpc_client." + std::to_string(::getpid()));
    std::filesystem::create_directory(dir_);
    options_.socket_path = dir_ / "s.sock";
    options_.min_backoff = milliseconds(1);
    options_.max_backoff = milliseconds(20);
    options_.connect_wait = seconds(10);
  }
  ~ClientTest() override {
    client_.reset();
    server_.reset();
    std::filesystem::remove_all(dir_);
  }

  void StartServer(ServerOptions options = {}) {
    server_.emplace([this](Server& server) { Prepare(server); }, options);
  }

  void Prepare(Server& server) {
    ASSERT_TRUE(server.Listen(options_.socket_path).ok());
    server.Register("echo",
                    [](const Json& params, Responder responder) { responder.Result(params); });
    server.Register("fail",
                    [](const Json&, Responder responder) { responder.Error(-17, "File exists"); });
    server.Register("big", [](const Json& params, Responder responder) {
      responder.Result(std::string(params["size"].get<size_t>(), 'x'));
    });
    // Keeps its answers until "release" is called; that one answers them in reverse.
    server.Register("hold", [this](const Json& params, Responder responder) {
      held_.emplace_back(params, std::move(responder));
      ++held_count_;
    });
    server.Register("release", [this](const Json&, Responder responder) {
      for (auto held = held_.rbegin(); held != held_.rend(); ++held)
        held->second.Result(held->first);
      held_.clear();
      held_count_ = 0;
      responder.Result(true);
    });
  }

  Client& StartClient() {
    client_ = Client::Start(options_);
    return *client_;
  }

  template <typename Condition>
  static void WaitFor(Condition condition) {
    const auto until = steady_clock::now() + seconds(20);
    while (!condition()) {
      ASSERT_LT(steady_clock::now(), until) << "waited too long";
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  ClientOptions options_;
  std::filesystem::path dir_;
  std::vector<std::pair<Json, Responder>> held_;
  std::atomic<int> held_count_{0};
  std::optional<ServerThread> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, ResultsAndErrors) {
  StartServer();
  Client& client = StartClient();
  EXPECT_EQ(*client.Call(Context::Background(), "echo", {{"a", 1}}), Json({{"a", 1}}));
  EXPECT_EQ(*client.Call(Context::Background(), "echo", nullptr), Json());
  auto failed = client.Call(Context::Background(), "fail", nullptr);
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(GetTargetError(failed.status())->code, -17);
  EXPECT_FALSE(IsFateUnknown(failed.status()));
  ClientStats stats = client.stats();
  EXPECT_EQ(stats.calls_sent, 3u);
  EXPECT_EQ(stats.results, 2u);
  EXPECT_EQ(stats.target_errors, 1u);
}

TEST_F(ClientTest, CallManyKeepsTheOrderOfRequests) {
  StartServer();
  StartClient();
  std::vector<Request> requests;
  for (int i = 0; i < 200; ++i) requests.push_back({"hold", {i}});
  requests[50].method = "fail";
  requests.push_back({"release", nullptr});
  for (bool batches : {false, true}) {
    if (batches) {
      options_.use_batches = true;
      client_.reset();
      StartClient();
    }
    auto results = client_->CallMany(Context::WithTimeout(seconds(20)), requests);
    ASSERT_EQ(results.size(), requests.size());
    for (int i = 0; i < 200; ++i) {
      if (i == 50) {
        EXPECT_EQ(GetTargetError(results[i].status())->code, -17);
      } else {
        ASSERT_TRUE(results[i].ok()) << results[i].status();
        EXPECT_EQ(*results[i], Json({i}));
      }
    }
    EXPECT_EQ(client_->stats().round_trips, 1u);
  }
  EXPECT_TRUE(client_->CallMany(Context::Background(), {}).empty());
}

TEST_F(ClientTest, SixtyFourThreads) {
  StartServer();
  Client& client = StartClient();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 64; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        const Json params = {t, i, std::string((t * i) % 500, 'x')};
        auto result = client.Call(Context::WithTimeout(seconds(60)), "echo", params);
        if (!result.ok() || *result != params) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(client.stats().results, 6400u);
}

TEST_F(ClientTest, HugeAnswersAndLargeRequests) {
  StartServer();
  Client& client = StartClient();
  auto big = client.Call(Context::WithTimeout(seconds(60)), "big", {{"size", 20'000'000}});
  ASSERT_TRUE(big.ok()) << big.status();
  EXPECT_EQ(big->get_ref<std::string&>().size(), 20'000'000u);

  // More than the socket holds at once, so that the thread has to finish the writing.
  const std::vector<Request> requests(40, Request{"echo", {std::string(200'000, 'y')}});
  for (auto& result : client.CallMany(Context::WithTimeout(seconds(60)), requests)) {
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(*result, requests[0].params);
  }
}

TEST_F(ClientTest, TooLargeARequestSendsNone) {
  StartServer();
  Client& client = StartClient();
  const std::vector<Request> requests = {{"echo", nullptr},
                                         {"echo", {std::string(kMaxRequestBytes, 'x')}}};
  for (auto& result : client.CallMany(Context::Background(), requests)) {
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_FALSE(IsFateUnknown(result.status()));
  }
  EXPECT_EQ(client.stats().calls_sent, 0u);
}

TEST_F(ClientTest, NotConnected) {
  options_.connect_wait = milliseconds(20);
  Client& client = StartClient();
  auto result = client.Call(Context::Background(), "echo", nullptr);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("No such file"));
  EXPECT_FALSE(IsFateUnknown(result.status()));
  EXPECT_FALSE(client.connected());
  EXPECT_EQ(client.generation(), 0u);
  EXPECT_TRUE(absl::IsUnavailable(client.WaitConnected(Context::WithTimeout(milliseconds(5)))));

  // A call that waits is served as soon as the target is there.
  options_.connect_wait = seconds(20);
  Client& patient = StartClient();
  std::thread caller(
      [&] { EXPECT_TRUE(patient.Call(Context::Background(), "echo", nullptr).ok()); });
  StartServer();
  caller.join();
  EXPECT_EQ(patient.generation(), 1u);
}

TEST_F(ClientTest, CancelWhileWaitingForTheConnection) {
  Client& client = StartClient();
  Context context = Context::Background();
  std::thread canceller([&] { context.Cancel(); });
  auto result = client.Call(context, "echo", nullptr);
  canceller.join();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(IsFateUnknown(result.status()));
  EXPECT_TRUE(absl::IsCancelled(client.WaitConnected(context)));
}

TEST_F(ClientTest, DeadlineThenTheLateAnswerIsDropped) {
  StartServer();
  Client& client = StartClient();
  const auto start = steady_clock::now();
  auto result = client.Call(Context::WithTimeout(milliseconds(50)), "hold", nullptr);
  EXPECT_GE(steady_clock::now() - start, milliseconds(50));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(IsFateUnknown(result.status()));
  EXPECT_TRUE(client.Call(Context::Background(), "release", nullptr).ok());
  EXPECT_EQ(client.stats().late_answers, 1u);
  EXPECT_EQ(client.stats().given_up, 1u);
  EXPECT_EQ(client.generation(), 1u);
}

TEST_F(ClientTest, DeadlineEndsOnlyWhatIsOpen) {
  StartServer();
  Client& client = StartClient();
  const std::vector<Request> requests = {{"echo", {1}}, {"hold", nullptr}, {"fail", nullptr}};
  auto results = client.CallMany(Context::WithTimeout(milliseconds(200)), requests);
  EXPECT_TRUE(results[0].ok());
  EXPECT_EQ(results[1].status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(GetTargetError(results[2].status())->code, -17);
}

TEST_F(ClientTest, Cancel) {
  StartServer();
  Client& client = StartClient();
  Context context = Context::Background();
  std::thread canceller([&] {
    WaitFor([&] { return held_count_ == 1; });
    context.Cancel();
  });
  auto result = client.Call(context, "hold", nullptr);
  canceller.join();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(IsFateUnknown(result.status()));
  result = client.Call(context, "echo", nullptr);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(IsFateUnknown(result.status()));
}

TEST_F(ClientTest, ReconnectsWhenTheTargetComesBack) {
  std::atomic<uint64_t> connects{0}, disconnects{0};
  options_.on_connect = [&](uint64_t generation) { connects = generation; };
  options_.on_disconnect = [&](uint64_t generation, const absl::Status& reason) {
    EXPECT_EQ(reason.code(), absl::StatusCode::kUnavailable);
    disconnects = generation;
  };
  StartServer();
  Client& client = StartClient();
  for (uint64_t generation = 1; generation <= 5; ++generation) {
    ASSERT_TRUE(client.WaitConnected(Context::WithTimeout(seconds(20))).ok());
    EXPECT_EQ(client.generation(), generation);
    EXPECT_EQ(connects, generation);
    std::thread stopper([&] {
      WaitFor([&] { return held_count_ == 1; });
      server_.reset();
    });
    auto result = client.Call(Context::Background(), "hold", nullptr);
    stopper.join();
    held_.clear();
    held_count_ = 0;
    EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_TRUE(IsFateUnknown(result.status()));
    WaitFor([&] { return disconnects == generation; });
    StartServer();
    EXPECT_TRUE(client.Call(Context::Background(), "echo", nullptr).ok());
  }
  client_.reset();  // while what the callbacks use is there
}

TEST_F(ClientTest, CallersSurviveATargetThatComesAndGoes) {
  StartServer();
  Client& client = StartClient();
  std::atomic<bool> stop{false};
  std::atomic<int> succeeded{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t) {
    threads.emplace_back([&] {
      while (!stop) {
        auto result = client.Call(Context::WithTimeout(seconds(20)), "echo", {1});
        if (result.ok()) {
          ++succeeded;
        } else {
          EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable) << result.status();
        }
      }
    });
  }
  for (int i = 0; i < 10; ++i) {
    const int before = succeeded;
    WaitFor([&] { return succeeded >= before + 100; });
    server_.reset();
    StartServer();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ClientTest, StopEndsCalls) {
  StartServer();
  Client& client = StartClient();
  std::thread stopper([&] {
    WaitFor([&] { return held_count_ == 1; });
    client.Stop();
  });
  auto result = client.Call(Context::Background(), "hold", nullptr);
  stopper.join();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::IsUnavailable(client.Call(Context::Background(), "echo", nullptr).status()));
}

TEST_F(ClientTest, PollPeriodCostsTheSameForOneAndForMany) {
  ServerOptions server_options;
  server_options.poll_period = milliseconds(20);
  StartServer(server_options);
  Client& client = StartClient();
  ASSERT_TRUE(client.Call(Context::Background(), "echo", nullptr).ok());
  const std::vector<Request> requests(50, Request{"echo", {1}});
  const auto start = steady_clock::now();
  for (auto& result : client.CallMany(Context::Background(), requests)) EXPECT_TRUE(result.ok());
  EXPECT_GE(steady_clock::now() - start, milliseconds(30));
}

// A target whose every byte the test decides.
class RawTargetTest : public ClientTest {
 protected:
  RawTargetTest() {
    listener_ = *UnixListener::Open(options_.socket_path, 0600);
    StartClient();
    WaitFor([&] { return (peer_ = listener_->Accept()).valid(); });
  }

  std::thread CallInThread(absl::Status& status, Context context, Json params = nullptr) {
    return std::thread([&status, context, params, this] {
      status = client_->Call(context, "m", params).status();
    });
  }

  // The next request's id.
  uint64_t ReadRequest() {
    std::string_view text;
    while (input_->Next(text) != Splitter::Outcome::kValue) {
      char buffer[4096];
      WaitFor([&] {
        ssize_t count = ::recv(peer_.get(), buffer, sizeof(buffer), 0);
        if (count > 0) input_->Append({buffer, static_cast<size_t>(count)});
        return count > 0;
      });
    }
    return (*Parse(text))["id"];
  }

  void Send(std::string_view bytes) {
    ASSERT_EQ(::send(peer_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }

  std::unique_ptr<UnixListener> listener_;
  base::UniqueFd peer_;
  std::optional<Splitter> input_{1 << 20};
};

TEST_F(RawTargetTest, AnswerInSingleBytes) {
  absl::Status status;
  std::thread caller = CallInThread(status, Context::Background());
  const std::string answer =
      R"({"jsonrpc":"2.0","id":)" + std::to_string(ReadRequest()) + R"(,"result":{"a":"}"}})";
  for (char c : answer) Send({&c, 1});
  caller.join();
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(RawTargetTest, GarbageClosesTheConnection) {
  for (const char* garbage :
       {"junk", "{]", "[]", "[5]", "{}", R"({"id":99999,"result":1})", R"({"id":0,"result":1})",
        R"({"id":null,"error":{"code":-32600,"message":"Invalid request"}})"}) {
    absl::Status status;
    std::thread caller = CallInThread(status, Context::Background());
    ReadRequest();
    Send(garbage);
    caller.join();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << garbage;
    EXPECT_TRUE(IsFateUnknown(status)) << garbage;
    WaitFor([&] { return (peer_ = listener_->Accept()).valid(); });
    input_.emplace(1 << 20);
  }
}

TEST_F(RawTargetTest, OversizedAnswerClosesTheConnection) {
  options_.max_answer_bytes = 1000;
  StartClient();
  WaitFor([&] { return (peer_ = listener_->Accept()).valid(); });
  absl::Status status;
  std::thread caller = CallInThread(status, Context::Background());
  ReadRequest();
  Send("[\"" + std::string(1000, 'x'));
  caller.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("too large"));
}

TEST_F(RawTargetTest, StuckTargetBlocksNobody) {
  const Json params = {std::string(200'000, 'x')};
  std::vector<absl::Status> statuses(8);
  std::vector<std::thread> callers;
  for (absl::Status& status : statuses) {
    callers.push_back(CallInThread(status, Context::WithTimeout(milliseconds(100)), params));
  }
  for (std::thread& caller : callers) caller.join();
  int unknown = 0;
  for (const absl::Status& status : statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    unknown += IsFateUnknown(status);
  }
  EXPECT_GE(unknown, 1);
  EXPECT_LT(unknown, 8) << "the socket cannot have taken them all";

  // What was never begun was taken back: once the target reads on, the next request comes after the
  // begun ones.
  absl::Status status;
  std::thread caller = CallInThread(status, Context::Background());
  uint64_t last = 0;
  for (int i = 0; i <= unknown; ++i) last = ReadRequest();
  Send(R"({"id":)" + std::to_string(last) + R"(,"result":1})");
  caller.join();
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(RawTargetTest, LostConnectionTellsWhatWasSent) {
  std::vector<Request> requests(20, Request{"m", {std::string(100'000, 'x')}});
  std::vector<absl::StatusOr<Json>> results;
  std::thread caller([&] { results = client_->CallMany(Context::Background(), requests); });
  ReadRequest();
  peer_.Reset();
  caller.join();
  ASSERT_EQ(results.size(), 20u);
  EXPECT_TRUE(IsFateUnknown(results.front().status()));
  EXPECT_FALSE(IsFateUnknown(results.back().status()));
  for (auto& result : results) EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace sma::jsonrpc
