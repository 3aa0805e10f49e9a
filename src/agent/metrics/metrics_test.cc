// SPDX-License-Identifier: Apache-2.0

#include "agent/metrics/metrics.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace sma::metrics {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

/// Returns a connection on which `request` has been sent.
base::UniqueFd Send(uint16_t port, const std::string& request) {
  base::UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
  EXPECT_EQ(send(fd.get(), request.data(), request.size(), 0),
            static_cast<ssize_t>(request.size()));
  return fd;
}

std::string Get(uint16_t port, const std::string& path) {
  base::UniqueFd fd = Send(port, "GET " + path + " HTTP/1.0\r\n\r\n");
  // Reads up to Content-Length, because the server closes the connection late.
  const std::string kLength = "Content-Length: ";
  std::string answer;
  size_t whole = std::string::npos;
  char chunk[4096];
  for (ssize_t got; answer.size() < whole && (got = recv(fd.get(), chunk, sizeof(chunk), 0)) > 0;) {
    answer.append(chunk, static_cast<size_t>(got));
    size_t length = answer.find(kLength);
    size_t body = answer.find("\r\n\r\n");
    if (length != std::string::npos && body != std::string::npos) {
      whole = body + 4 + std::stoul(answer.substr(length + kLength.size()));
    }
  }
  return answer;
}

TEST(Metrics, CallsAndNumbersAreShown) {
  AgentNumbers numbers;
  numbers.serving = true;
  numbers.devices = 7;
  numbers.target_calls = 1000;
  numbers.unmet_conditions = {{"volume", "PathsUp", 3}, {"device", "OnTarget", 0}};
  numbers.paths_up = 5;
  numbers.paths_down = 4;
  auto metrics = Metrics::Listen("127.0.0.1:0", [&] { return numbers; });
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  (*metrics)->ObserveCall("CreateDevice", absl::StatusCode::kOk, milliseconds(3));
  (*metrics)->ObserveCall("CreateDevice", absl::StatusCode::kOk, milliseconds(300));
  (*metrics)->ObserveCall("CreateDevice", absl::StatusCode::kNotFound, milliseconds(1));
  std::string text = Get((*metrics)->port(), "/metrics");
  EXPECT_THAT(text, HasSubstr("sma_calls_total{code=\"OK\",method=\"CreateDevice\"} 2"));
  EXPECT_THAT(text, HasSubstr("sma_calls_total{code=\"NOT_FOUND\",method=\"CreateDevice\"} 1"));
  EXPECT_THAT(text, HasSubstr("sma_call_duration_seconds_count{method=\"CreateDevice\"} 3"));
  EXPECT_THAT(text, HasSubstr("le=\"0.005\"} 2"));
  EXPECT_THAT(text, HasSubstr("sma_serving 1"));
  EXPECT_THAT(text, HasSubstr("sma_target_connected 0"));
  EXPECT_THAT(text, HasSubstr("sma_devices 7"));
  EXPECT_THAT(text, HasSubstr("sma_unmet_conditions{object=\"volume\",condition=\"PathsUp\"} 3"));
  EXPECT_THAT(text, HasSubstr("sma_unmet_conditions{object=\"device\",condition=\"OnTarget\"} 0"));
  EXPECT_THAT(text, HasSubstr("sma_volume_paths{state=\"up\"} 5"));
  EXPECT_THAT(text, HasSubstr("sma_volume_paths{state=\"down\"} 4"));
  EXPECT_THAT(text, HasSubstr("sma_target_calls_total 1000"));
  EXPECT_THAT(Get((*metrics)->port(), "/other"), HasSubstr("404"));
}

TEST(Metrics, TheReasonIsGivenIfTheAddressCannotBeUsed) {
  auto first = Metrics::Listen("127.0.0.1:0", [] { return AgentNumbers(); });
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string address = "127.0.0.1:" + std::to_string((*first)->port());
  EXPECT_EQ(Metrics::Listen(address, [] { return AgentNumbers(); }).status().message(),
            "metrics: cannot listen on " + address + ": Address already in use");
}

TEST(Metrics, CallsAreCountedFromManyThreads) {
  auto metrics = Metrics::Listen("127.0.0.1:0", [] { return AgentNumbers(); });
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 1000; ++n) {
        (*metrics)->ObserveCall("SetQos", absl::StatusCode::kOk, milliseconds(1));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(Get((*metrics)->port(), "/metrics"),
              HasSubstr("sma_calls_total{code=\"OK\",method=\"SetQos\"} 4000"));
}

TEST(Metrics, IncompleteRequestsDelayNoOthersAndAreDropped) {
  auto metrics = Metrics::Listen("127.0.0.1:0", [] { return AgentNumbers(); });
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  std::vector<base::UniqueFd> half;
  auto get_with = [&](size_t count) {
    const auto began = std::chrono::steady_clock::now();
    while (half.size() < count) {
      half.push_back(Send((*metrics)->port(), "GET /metrics HTTP/1.0\r\nHost: x"));
    }
    EXPECT_THAT(Get((*metrics)->port(), "/metrics"), HasSubstr("sma_serving 0"));
    return std::chrono::steady_clock::now() - began;
  };
  EXPECT_LT(get_with(20), std::chrono::seconds(10)) << "threads are available";
  EXPECT_LT(get_with(70), std::chrono::seconds(20)) << "connections are dropped one after another";
  for (base::UniqueFd& fd : half) {
    char byte = 0;
    while (recv(fd.get(), &byte, 1, 0) > 0) continue;  // an error response, then the end
  }
}

TEST(Metrics, AnAddressInUseIsReported) {
  auto first = Metrics::Listen("127.0.0.1:0", [] { return AgentNumbers(); });
  ASSERT_TRUE(first.ok()) << first.status();
  std::string address = "127.0.0.1:" + std::to_string((*first)->port());
  auto second = Metrics::Listen(address, [] { return AgentNumbers(); });
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(address));
}

}  // namespace
}  // namespace sma::metrics
