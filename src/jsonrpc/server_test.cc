#include "jsonrpc/server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>

#include "jsonrpc/splitter.h"

namespace sma::jsonrpc {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::ElementsAre;
using testing::IsEmpty;

// One end of a connection to a server that runs in the test's own thread.
class Peer {
 public:
  explicit Peer(Server& server) : server_(server) {
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0) std::abort();
    socket_.Reset(fds[0]);
    server.AddConnection(base::UniqueFd(fds[1]));
  }
  Peer(Server& server, const std::string& path) : server_(server) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    socket_.Reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    connected =
        ::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }

  void Send(std::string_view text) {
    while (!text.empty()) {
      ssize_t sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) return;
      if (sent > 0) text.remove_prefix(sent);
      Step();
    }
  }

  // Lines received so far; waits until there are `count`, the connection ends, or 10 s have passed.
  std::vector<std::string> Lines(size_t count) {
    std::vector<std::string> lines;
    const auto until = steady_clock::now() + std::chrono::seconds(10);
    while (steady_clock::now() < until) {
      for (size_t end; lines.size() < count && (end = received_.find('\n')) != std::string::npos;) {
        lines.push_back(received_.substr(0, end));
        received_.erase(0, end + 1);
      }
      if (lines.size() >= count || closed_) return lines;
      Step(/*receiving=*/true);
      Receive();
    }
    ADD_FAILURE() << "no answer in time";
    return lines;
  }
  std::string Line() {
    auto lines = Lines(1);
    return lines.empty() ? "" : lines[0];
  }

  bool Closed() {
    Lines(1'000'000'000);
    return closed_;
  }

  void Shutdown() { ::shutdown(socket_.get(), SHUT_WR); }
  void Close() { socket_.Reset(); }

  // Lets the server run when it has something to do; waits up to 10 ms for that, or for an answer
  // when `receiving`.
  void Step(bool receiving = false) {
    pollfd fds[2] = {{server_.fd(), POLLIN, 0}, {receiving ? socket_.get() : -1, POLLIN, 0}};
    ::poll(fds, 2, 10);
    if (fds[0].revents != 0) server_.Poll();
  }

  bool connected = true;

 private:
  void Receive() {
    char buffer[65536];
    ssize_t count = ::recv(socket_.get(), buffer, sizeof(buffer), 0);
    if (count > 0) received_.append(buffer, count);
    if (count == 0 || (count < 0 && errno != EAGAIN)) closed_ = true;
  }

  Server& server_;
  base::UniqueFd socket_;
  std::string received_;
  bool closed_ = false;
};

class ServerTest : public testing::Test {
 protected:
  ServerTest() { Prepare(server_); }

  void Prepare(Server& server) {
    server.Register("echo",
                    [](const Json& params, Responder responder) { responder.Result(params); });
    server.Register("fail",
                    [](const Json&, Responder responder) { responder.Error(-17, "File exists"); });
    server.Register("drop", [](const Json&, Responder) {});
    server.Register("throw", [](const Json& params, Responder) { params.at("no such key"); });
    server.Register("later", [this](const Json&, Responder responder) {
      later_.push_back(std::move(responder));
    });
    server.Register("big", [](const Json& params, Responder responder) {
      responder.Result(std::string(params["size"].get<size_t>(), 'x'));
    });
  }

  std::string TempPath() {
    dir_ = std::filesystem::temp_directory_path() / ("jsonrpc_test." + std::to_string(::getpid()));
    std::filesystem::create_directory(*dir_);
    return *dir_ / "s.sock";
  }
  ~ServerTest() override {
    if (dir_) std::filesystem::remove_all(*dir_);
  }

  Server server_;
  std::vector<Responder> later_;
  std::optional<std::filesystem::path> dir_;
};

TEST_F(ServerTest, ResultsErrorsAndIds) {
  Peer peer(server_);
  peer.Send(R"({"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":[1]}})");
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":1,"result":{"a":[1]}})");
  peer.Send(R"({"id":"abc","method":"echo"})");
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":"abc","result":null})");
  peer.Send(R"({"jsonrpc":"2.0","id":2,"method":"fail"})");
  EXPECT_EQ(peer.Line(),
            R"({"jsonrpc":"2.0","id":2,"error":{"code":-17,"message":"File exists"}})");
}

TEST_F(ServerTest, UnknownMethodThenTheNextInOneWrite) {
  Peer peer(server_);
  peer.Send(R"({"id":1,"method":"nope"}{"id":2,"method":"echo"})");
  EXPECT_THAT(
      peer.Lines(2),
      ElementsAre(
          R"({"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}})",
          R"({"jsonrpc":"2.0","id":2,"result":null})"));
}

TEST_F(ServerTest, NotificationsAreServedAndNotAnswered) {
  Peer peer(server_);
  peer.Send(R"({"method":"later"}{"method":"nope"}{"method":"fail"}{"id":null,"method":"echo"})");
  peer.Send(R"({"id":9,"method":"echo"})");
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":9,"result":null})");
  ASSERT_EQ(later_.size(), 1u);
  later_[0].Result(1);
  peer.Send(R"({"id":10,"method":"echo"})");
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":10,"result":null})");
}

TEST_F(ServerTest, InvalidRequests) {
  const std::string with_id =
      R"({"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"Invalid request"}})";
  const std::string null_id =
      R"({"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid request"}})";
  Peer peer(server_);
  for (const char* text :
       {R"({"id":1})", R"({"id":1,"method":5})", R"({"id":1,"method":"echo","params":"text"})",
        R"({"id":1,"method":"echo","more":1})", R"({"id":1,"jsonrpc":"1.0","method":"echo"})"}) {
    peer.Send(text);
    EXPECT_EQ(peer.Line(), with_id) << text;
  }
  for (const char* text :
       {"{}", R"({"id":true,"method":"echo"})", R"({"id":{},"method":"echo"})", "[]"}) {
    peer.Send(text);
    EXPECT_EQ(peer.Line(), null_id) << text;
  }
}

TEST_F(ServerTest, HandlerThatThrowsOrDropsAnswersInternalError) {
  Peer peer(server_);
  for (const char* method : {"drop", "throw"}) {
    peer.Send(R"({"id":1,"method":")" + std::string(method) + R"(","params":{}})");
    EXPECT_EQ(peer.Line(),
              R"({"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error"}})");
  }
}

TEST_F(ServerTest, BatchIsAnsweredWhenAllAreDone) {
  Peer peer(server_);
  peer.Send(R"([{"id":1,"method":"later"},{"id":2,"method":"echo"},{"method":"echo"},5])");
  peer.Send(R"({"id":3,"method":"echo"})");
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":3,"result":null})");
  ASSERT_EQ(later_.size(), 1u);
  later_[0].Result(true);
  EXPECT_EQ(Parse(peer.Line()), Parse(R"([{"jsonrpc":"2.0","id":2,"result":null},
                      {"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid request"}},
                      {"jsonrpc":"2.0","id":1,"result":true}])"));
}

TEST_F(ServerTest, BatchOfNotificationsIsNotAnswered) {
  Peer peer(server_);
  peer.Send(R"([{"method":"echo"},{"method":"nope"}]{"id":1,"method":"echo"})");
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":1,"result":null})");
}

TEST_F(ServerTest, JunkClosesTheConnectionAfterWhatWasAnswered) {
  for (const char* junk : {"junk", "{]", "[1,]", "1", "\"\"", "\xff"}) {
    Peer peer(server_);
    peer.Send(R"({"id":1,"method":"echo"})" + std::string(junk));
    EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":1,"result":null})") << junk;
    EXPECT_TRUE(peer.Closed()) << junk;
    EXPECT_EQ(server_.connection_count(), 0u);
  }
}

TEST_F(ServerTest, LargestRequestAndOneByteMore) {
  const std::string frame = R"({"id":1,"method":"drop","params":[""]})";
  std::string request = frame;
  request.insert(frame.size() - 3, kMaxRequestBytes - frame.size(), 'x');
  Peer peer(server_);
  peer.Send(request);
  EXPECT_NE(peer.Line(), "");
  request.insert(frame.size() - 3, "x");
  peer.Send(request);
  EXPECT_TRUE(peer.Closed());
}

TEST_F(ServerTest, AnswersAfterTheConnectionOrTheServerIsGone) {
  auto server = std::make_unique<Server>();
  Prepare(*server);
  {
    Peer peer(*server);
    peer.Send(R"({"id":1,"method":"later"}{"id":2,"method":"later"}[{"id":3,"method":"later"}])");
    while (later_.size() < 3) peer.Step();
    peer.Close();
    while (server->connection_count() > 0) peer.Step();
  }
  later_[0].Result("x");
  later_[0].Error(-1, "again");
  server.reset();
  later_[1].Error(-1, "x");
  later_.clear();
}

TEST_F(ServerTest, HalfClosedPeerGetsItsAnswers) {
  Peer peer(server_);
  peer.Send(R"({"id":1,"method":"later"})");
  peer.Shutdown();
  while (later_.empty()) peer.Step();
  for (int i = 0; i < 3; ++i) peer.Step();
  later_[0].Result(1);
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":1,"result":1})");
  EXPECT_TRUE(peer.Closed());
  EXPECT_EQ(server_.connection_count(), 0u);
}

TEST_F(ServerTest, RequestsOfOneConnectionStartInOrder) {
  std::vector<int> started;
  server_.Register("note", [&](const Json& params, Responder responder) {
    started.push_back(params[0].get<int>());
    responder.Result(true);
  });
  Peer peer(server_);
  std::string requests;
  for (int i = 0; i < 500; ++i) {
    requests += R"({"id":1,"method":"note","params":[)" + std::to_string(i) + "]}";
  }
  peer.Send(requests);
  EXPECT_EQ(peer.Lines(500).size(), 500u);
  ASSERT_EQ(started.size(), 500u);
  EXPECT_TRUE(std::is_sorted(started.begin(), started.end()));
}

TEST_F(ServerTest, SlowReaderIsHeldBackAndLosesNothing) {
  size_t served = 0;
  server_.Register("count_big", [&](const Json&, Responder responder) {
    ++served;
    responder.Result(std::string(1 << 20, 'x'));
  });
  Peer peer(server_);
  std::string requests;
  for (int i = 0; i < 50; ++i) requests += R"({"id":1,"method":"count_big"})";
  peer.Send(requests);
  for (int i = 0; i < 30; ++i) peer.Step();
  EXPECT_LE(served, 10u);  // 4 MiB wait at most, what the socket took, and one more
  EXPECT_EQ(peer.Lines(50).size(), 50u);
  EXPECT_EQ(served, 50u);
}

TEST_F(ServerTest, RequestsInProgressAreLimited) {
  ServerOptions options;
  options.max_requests_in_progress = 10;
  Server server(options);
  Prepare(server);
  Peer peer(server);
  std::string requests;
  for (int i = 0; i < 25; ++i) requests += R"({"id":1,"method":"later"})";
  peer.Send(requests);
  peer.Shutdown();
  size_t answered = 0;
  while (answered < 25) {
    while (later_.empty()) peer.Step();
    for (int i = 0; i < 5; ++i) peer.Step();
    ASSERT_LE(later_.size(), 10u);
    answered += later_.size();
    for (const Responder& responder : std::exchange(later_, {})) responder.Result(1);
  }
  EXPECT_EQ(peer.Lines(25).size(), 25u);
  EXPECT_TRUE(peer.Closed());
}

TEST_F(ServerTest, TextThatIsNotUtf8IsReplaced) {
  server_.Register("latin1", [](const Json&, Responder responder) { responder.Result("caf\xe9"); });
  Peer peer(server_);
  peer.Send(R"({"id":1,"method":"latin1"})");
  EXPECT_EQ(peer.Line(), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"caf\xEF\xBF\xBD\"}");
}

TEST_F(ServerTest, ConnectionLimit) {
  ServerOptions options;
  options.max_connections = 2;
  Server server(options);
  Prepare(server);
  Peer first(server), second(server), third(server);
  EXPECT_TRUE(third.Closed());
  first.Close();
  while (server.connection_count() > 1) second.Step();
  Peer fourth(server);
  fourth.Send(R"({"id":1,"method":"echo"})");
  EXPECT_NE(fourth.Line(), "");
}

TEST_F(ServerTest, ManyConnectionsAtOnce) {
  const std::string path = TempPath();
  ASSERT_TRUE(server_.Listen(path).ok());
  std::vector<std::unique_ptr<Peer>> peers;
  for (int i = 0; i < 50; ++i) {
    peers.push_back(std::make_unique<Peer>(server_, path));
    ASSERT_TRUE(peers.back()->connected);
    peers.back()->Send(R"({"id":1,"method":"big","params":{"size":100000}})");
  }
  for (auto& peer : peers) EXPECT_GT(peer->Line().size(), 100'000u);
}

TEST_F(ServerTest, SocketFile) {
  const std::string path = TempPath();
  ::umask(0);
  ASSERT_TRUE(server_.Listen(path).ok());
  ::umask(022);
  struct stat file {};
  ASSERT_EQ(::stat(path.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777, 0600u);

  Server other;
  EXPECT_EQ(other.Listen(path).code(), absl::StatusCode::kAlreadyExists);
  const std::string wide = path + "2";
  ASSERT_TRUE(other.Listen(wide, 0666).ok());
  ASSERT_EQ(::stat(wide.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777, 0666u);

  Peer peer(server_, path);
  peer.Send(R"({"id":1,"method":"echo"})");
  EXPECT_NE(peer.Line(), "");
  server_.Stop();
  EXPECT_TRUE(peer.Closed());
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_FALSE(std::filesystem::exists(path + ".lock"));
  ASSERT_TRUE(other.Listen(path).ok());
}

base::UniqueFd BindTo(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(::listen(fd.get(), 1), 0);
  return fd;
}

TEST_F(ServerTest, StaleSocketIsReplacedLiveOneIsNot) {
  const std::string path = TempPath();
  base::UniqueFd live = BindTo(path);
  EXPECT_EQ(server_.Listen(path).code(), absl::StatusCode::kAlreadyExists);
  live.Reset();
  EXPECT_TRUE(server_.Listen(path).ok());
  EXPECT_TRUE(Peer(server_, path).connected);
}

TEST_F(ServerTest, ASocketOfSomebodyElseStays) {
  const std::string path = TempPath();
  ASSERT_TRUE(server_.Listen(path).ok());
  std::filesystem::remove(path);
  base::UniqueFd other = BindTo(path);
  server_.Stop();
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(ServerTest, BadPaths) {
  const std::string path = TempPath();
  ::close(::open(path.c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_EQ(server_.Listen(path).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::exists(path));
  EXPECT_EQ(server_.Listen("").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(server_.Listen(std::string(200, 'x')).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(server_.Listen(path + ".d/s.sock").code(), absl::StatusCode::kNotFound);
}

TEST_F(ServerTest, PollPeriodAnswersOnTheNextLook) {
  ServerOptions options;
  options.poll_period = milliseconds(20);
  Server server(options);
  Prepare(server);
  Peer peer(server);
  peer.Send(R"({"id":1,"method":"echo"})");
  peer.Line();
  // In step with the looks from here on: seen at the next one, answered at the one after.
  const auto start = steady_clock::now();
  std::string calls;
  for (int i = 0; i < 50; ++i) calls += R"({"id":1,"method":"echo"})";
  peer.Send(calls);
  EXPECT_EQ(peer.Lines(50).size(), 50u);
  EXPECT_GE(steady_clock::now() - start, milliseconds(30));
}

}  // namespace
}  // namespace sma::jsonrpc
