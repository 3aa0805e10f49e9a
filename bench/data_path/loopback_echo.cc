// SPDX-License-Identifier: Apache-2.0

// Exchanges messages of the sizes of NVMe/TCP over loopback TCP, and does nothing else. A client
// keeps `depth` requests outstanding on each connection, and a server answers every complete
// request. The rate is an upper bound for any target on this host.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/unique_fd.h"
#include "data_path/echo_stream.h"

namespace {

using sma::base::UniqueFd;
using sma::bench::Connection;
using sma::bench::Die;
using sma::bench::kHeaderBytes;

struct Options {
  size_t request_bytes = 72;
  size_t reply_bytes = 24 + 4096;
  uint32_t depth = 1;
  uint32_t connections = 1;
  double seconds = 2;
  int server_cpu = -1;
  int client_cpu = -1;
  bool sleep = false;
  size_t random_mib = 0;  // 0: data are read sequentially
};

constexpr size_t kReceiveBytes = 256 * 1024;
// The source of the messages' data, like a disk in memory: read sequentially or, if requested, at
// random addresses of a larger memory.
constexpr size_t kDiskBytes = 64 << 20;
constexpr size_t kHugePageBytes = 2 << 20;

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void PinTo(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) Die("sched_setaffinity");
}

void WaitForEvents(std::vector<Connection>& connections) {
  std::vector<pollfd> fds;
  for (const Connection& connection : connections) {
    short events = connection.sender.idle() ? POLLIN : POLLIN | POLLOUT;
    fds.push_back({connection.fd.get(), events, 0});
  }
  poll(fds.data(), fds.size(), 1000);
}

std::vector<char> MakeDisk(size_t size = kDiskBytes) {
  std::vector<char> disk;
  disk.reserve(size);
  // Uses huge pages, like the target's memory disks.
  auto start = reinterpret_cast<uintptr_t>(disk.data());
  uintptr_t first = (start + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  madvise(reinterpret_cast<void*>(first), start + size - first, MADV_HUGEPAGE);
  disk.resize(size);
  for (size_t i = 0; i < disk.size(); i += 64) disk[i] = static_cast<char>(i >> 6);
  return disk;
}

[[noreturn]] void Serve(const Options& options, const UniqueFd& listener) {
  PinTo(options.server_cpu);
  const bool random = options.random_mib > 0;
  const std::vector<char> disk = MakeDisk(random ? options.random_mib << 20 : kDiskBytes);
  std::vector<char> buffer(kReceiveBytes);
  std::vector<Connection> connections;
  while (connections.size() < options.connections) {
    UniqueFd fd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK));
    if (!fd) Die("accept");
    int on = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connections.emplace_back(std::move(fd), options.reply_bytes, disk, random);
  }
  for (;;) {
    bool busy = false;
    for (Connection& connection : connections) {
      int64_t requests = connection.Receive(buffer, options.request_bytes);
      if (requests < 0) std::exit(0);
      busy |= requests > 0;
      connection.sender.Add(static_cast<uint64_t>(requests));
      connection.sender.Send(connection.fd.get());
    }
    if (!busy && options.sleep) WaitForEvents(connections);
  }
}

UniqueFd Listen(sockaddr_in& address) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
  address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(fd.get(), 64) != 0 ||
      getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    Die("listen");
  }
  return fd;
}

std::vector<Connection> ConnectAll(const Options& options, const sockaddr_in& address,
                                   const std::vector<char>& disk) {
  std::vector<Connection> connections;
  for (uint32_t i = 0; i < options.connections; ++i) {
    UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
    int on = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      Die("connect");
    }
    connections.emplace_back(std::move(fd), options.request_bytes, disk);
  }
  return connections;
}

// Returns the replies per second.
double Measure(const Options& options, const sockaddr_in& address) {
  PinTo(options.client_cpu);
  const std::vector<char> disk = MakeDisk();
  std::vector<char> buffer(kReceiveBytes);
  std::vector<Connection> connections = ConnectAll(options, address, disk);
  for (Connection& connection : connections) connection.sender.Add(options.depth);
  const auto warm_up_ns = static_cast<uint64_t>(options.seconds * 1e9 / 5);
  // Measures from the first reply on, because the server may still be allocating its disk.
  uint64_t start_ns = 0;
  uint64_t end_ns = UINT64_MAX;
  uint64_t replies = 0;
  bool warm = false;
  for (;;) {
    bool busy = false;
    for (Connection& connection : connections) {
      connection.sender.Send(connection.fd.get());
      int64_t received = connection.Receive(buffer, options.reply_bytes);
      if (received < 0) Die("the server is gone");
      busy |= received > 0;
      replies += static_cast<uint64_t>(received);
      connection.sender.Add(static_cast<uint64_t>(received));
    }
    if (!busy && options.sleep) WaitForEvents(connections);
    const uint64_t now_ns = NowNs();
    if (start_ns == 0) {
      if (replies == 0) continue;
      start_ns = now_ns + warm_up_ns;
      end_ns = start_ns + static_cast<uint64_t>(options.seconds * 1e9);
    }
    if (!warm && now_ns >= start_ns) {
      warm = true;
      start_ns = now_ns;
      replies = 0;
    }
    if (now_ns >= end_ns) {
      return static_cast<double>(replies) / (static_cast<double>(now_ns - start_ns) / 1e9);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Moves messages over loopback TCP as fast as they go; prints JSON");
  app.add_option("--request-bytes", options.request_bytes)->check(CLI::Range(1, 1 << 24));
  app.add_option("--reply-bytes", options.reply_bytes)->check(CLI::Range(1, 1 << 24));
  app.add_option("--depth", options.depth, "requests under way on each connection")
      ->check(CLI::Range(1, 4096));
  app.add_option("--connections", options.connections)->check(CLI::Range(1, 64));
  app.add_option("--seconds", options.seconds);
  app.add_option("--server-cpu", options.server_cpu);
  app.add_option("--client-cpu", options.client_cpu);
  app.add_flag("--sleep", options.sleep, "both ends sleep instead of spinning");
  app.add_option("--random-mib", options.random_mib,
                 "replies come from random places in a memory of this size; 0: in order")
      ->check(CLI::Range(0, 65536));
  CLI11_PARSE(app, argc, argv);
  if (options.random_mib > 0 && options.reply_bytes <= kHeaderBytes) {
    std::fputs("loopback_echo: --random-mib needs replies with data\n", stderr);
    return 1;
  }

  sockaddr_in address;
  UniqueFd listener = Listen(address);
  const pid_t server = fork();
  if (server < 0) Die("fork");
  if (server == 0) Serve(options, listener);
  const double rate = Measure(options, address);
  kill(server, SIGKILL);
  waitpid(server, nullptr, 0);
  const double under_way = static_cast<double>(options.depth) * options.connections;
  nlohmann::json result{{"ios_per_second", rate}, {"mean_latency_us", under_way / rate * 1e6}};
  std::puts(result.dump().c_str());
  return 0;
}
