// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "jsonrpc/server.h"

namespace sma::jsonrpc {

/// One end of a connection to a server that runs on the test's own thread.
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

  // Returns the lines received so far; waits until there are `count`, the connection ends, or 60 s
  // have passed.
  std::vector<std::string> Lines(size_t count) {
    std::vector<std::string> lines;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (std::chrono::steady_clock::now() < until) {
      for (size_t end;
           lines.size() < count && (end = received_.find('\n', searched_)) != std::string::npos;) {
        lines.push_back(received_.substr(0, end));
        received_.erase(0, end + 1);
        searched_ = 0;
      }
      if (lines.size() >= count || closed_) return lines;
      searched_ = received_.size();
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

  // Runs the server if it has work. Waits up to 10 ms for work or, if `receiving` is set, for an
  // answer.
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
  size_t searched_ = 0;  // this many bytes of received_ contain no newline
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

}  // namespace sma::jsonrpc
