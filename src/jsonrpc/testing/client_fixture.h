// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "jsonrpc/client.h"
#include "jsonrpc/testing/server_thread.h"

namespace sma::jsonrpc {

/// A client and a server with a few methods, on a socket in a temporary folder.
class ClientTest : public testing::Test {
 protected:
  ClientTest() {
    dir_ =
        std::filesystem::temp_directory_path() / ("jsonrpc_client." + std::to_string(::getpid()));
    std::filesystem::create_directory(dir_);
    options_.socket_path = dir_ / "s.sock";
    options_.min_backoff = std::chrono::milliseconds(1);
    options_.max_backoff = std::chrono::milliseconds(20);
    options_.connect_wait = std::chrono::seconds(10);
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
    // Does not answer until "release" is called, which answers the calls in reverse order.
    server.Register("hold", [this](const Json& params, Responder responder) {
      held_.emplace_back(params, std::move(responder));
      ++held_count_;
    });
    server.Register("hold_get_all", [this](const Json& params, Responder responder) {
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

  /// Makes a call that is cancelled when the server has received it; the server does not answer.
  void CallWithoutAnswer(Client& client, const std::string& method) {
    const int before = held_count_;
    base::Context context = base::Context::Background();
    std::thread canceller([&] {
      WaitFor([&] { return held_count_ > before; });
      context.Cancel();
    });
    EXPECT_FALSE(client.Call(context, method, nullptr).ok());
    canceller.join();
  }

  template <typename Condition>
  static void WaitFor(Condition condition) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until) << "waited too long";
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  ClientOptions options_;
  std::filesystem::path dir_;
  std::vector<std::pair<Json, Responder>> held_;
  std::atomic<int> held_count_{0};
  std::optional<ServerThread> server_;
  std::unique_ptr<Client> client_;
};

}  // namespace sma::jsonrpc
