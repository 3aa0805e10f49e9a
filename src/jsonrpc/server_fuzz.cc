// SPDX-License-Identifier: Apache-2.0

#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "jsonrpc/server.h"
#include "jsonrpc/splitter.h"

namespace sma::jsonrpc {
namespace {

// Checks that the peer receives a stream of JSON objects and arrays.
void CheckAnswers(int socket, Splitter& answers) {
  char buffer[65536];
  for (ssize_t count; (count = ::recv(socket, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0;) {
    answers.Append({buffer, static_cast<size_t>(count)});
    std::string_view text;
    Splitter::Outcome outcome;
    while ((outcome = answers.Next(text)) == Splitter::Outcome::kValue) {
      if (!Parse(text)) std::abort();
    }
    if (outcome != Splitter::Outcome::kNeedMore) std::abort();
  }
}

void ServeStream(std::string_view stream, size_t piece_bytes) {
  ServerOptions options;
  options.max_request_bytes = 2048;
  options.max_queued_answer_bytes = 512;
  options.max_requests_in_progress = 4;
  Server server(options);
  std::vector<Responder> later;
  server.Register("e", [](const Json& params, Responder responder) { responder.Result(params); });
  server.Register("l", [&](const Json&, Responder responder) { later.push_back(responder); });
  server.Register("t", [](const Json& params, Responder) { params.at("key").at(0); });

  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
  base::UniqueFd peer(fds[0]);
  server.AddConnection(base::UniqueFd(fds[1]));
  Splitter answers(1 << 20);
  for (size_t at = 0; at < stream.size(); at += piece_bytes) {
    std::string_view piece = stream.substr(at, piece_bytes);
    if (::send(peer.get(), piece.data(), piece.size(), MSG_NOSIGNAL) < 0) break;
    server.Poll();
    if (at % 3 == 0) {
      for (const Responder& responder : std::exchange(later, {})) responder.Error(-1, "later");
    }
    CheckAnswers(peer.get(), answers);
  }
  ::shutdown(peer.get(), SHUT_WR);
  // Each round continues at least one held-back request; a value has at least two bytes.
  for (size_t i = 0; i < stream.size() + 4 && server.connection_count() > 0; ++i) {
    for (const Responder& responder : std::exchange(later, {})) responder.Result(true);
    server.Poll();
    CheckAnswers(peer.get(), answers);
  }
  if (server.connection_count() != 0 || answers.pending_bytes() != 0) std::abort();
}

}  // namespace
}  // namespace sma::jsonrpc

// The first byte determines how the stream is divided.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool quiet = (spdlog::set_level(spdlog::level::off), true);
  if (!quiet || size < 2) return 0;
  std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  sma::jsonrpc::ServeStream(stream, 1 + 8 * data[0]);
  return 0;
}
