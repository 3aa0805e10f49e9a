// SPDX-License-Identifier: Apache-2.0

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "storage_target/rpc/app/framework_rpc.h"
#include "storage_target/rpc/bdev_format.h"
#include "storage_target/rpc/params.h"

namespace sma::storage_target::rpc {
namespace {

using Reactors = std::vector<const Reactor*>;

/// The CPU time of a thread in clock ticks (proc(5), /proc/pid/task/tid/stat, fields 14 and 15).
struct CpuTime {
  uint64_t user_ticks = 0;
  uint64_t system_ticks = 0;
};

CpuTime GetCpuTime(int tid) {
  std::ifstream file("/proc/self/task/" + std::to_string(tid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // The name may contain blanks; the fields of interest follow its closing bracket.
  size_t after_name = text.rfind(')');
  CpuTime time;
  if (after_name == std::string::npos) return time;
  std::istringstream fields(text.substr(after_name + 1));
  std::string skipped;
  for (int i = 3; i < 14; ++i) fields >> skipped;
  fields >> time.user_ticks >> time.system_ticks;
  return time;
}

int CoreOf(const Reactor& reactor) { return std::max(reactor.options().index, 0); }

std::string CpuMask(const Reactor& reactor) {
  std::ostringstream mask;
  mask << std::hex << (uint64_t{1} << (CoreOf(reactor) % 64));
  return mask.str();
}

// SPDK's threads correspond to reactors here; each reactor is reported with one thread.
Json FormatThread(const Reactor& reactor, size_t id) {
  return {{"name", reactor.options().name}, {"id", id}, {"cpumask", CpuMask(reactor)}};
}

RpcResult GetReactors(const Reactors& reactors, const Json& params) {
  if (!Decode(params, {})) return DecodeError();
  Json list = Json::array();
  for (size_t i = 0; i < reactors.size(); ++i) {
    const Reactor& reactor = *reactors[i];
    CpuTime time = GetCpuTime(reactor.tid());
    Json thread = FormatThread(reactor, i + 1);
    thread["elapsed"] = reactor.busy_ns() + reactor.idle_ns();
    list.push_back({{"lcore", CoreOf(reactor)},
                    {"numa_id", 0},
                    {"tid", reactor.tid()},
                    {"busy", reactor.busy_ns()},
                    {"idle", reactor.idle_ns()},
                    {"in_interrupt", true},
                    {"irq", 0},
                    {"sys", time.system_ticks},
                    {"usr", time.user_ticks},
                    {"lw_threads", Json::array({std::move(thread)})}});
  }
  return Json{{"tick_rate", kTickRate}, {"pid", ::getpid()}, {"reactors", std::move(list)}};
}

RpcResult GetThreadStats(const Reactors& reactors, const Json& params) {
  if (!Decode(params, {})) return DecodeError();
  Json list = Json::array();
  for (size_t i = 0; i < reactors.size(); ++i) {
    Json thread = FormatThread(*reactors[i], i + 1);
    thread["busy"] = reactors[i]->busy_ns();
    thread["idle"] = reactors[i]->idle_ns();
    thread["active_pollers_count"] = reactors[i]->poller_count();
    thread["timed_pollers_count"] = reactors[i]->timer_count();
    thread["paused_pollers_count"] = 0;
    list.push_back(std::move(thread));
  }
  return Json{{"tick_rate", kTickRate}, {"threads", std::move(list)}};
}

}  // namespace

void RegisterReactorRpc(RpcServer& server, Reactors reactors) {
  server.Register("framework_get_reactors",
                  [reactors](const Json& params) { return GetReactors(reactors, params); });
  server.Register("thread_get_stats", [reactors = std::move(reactors)](const Json& params) {
    return GetThreadStats(reactors, params);
  });
}

}  // namespace sma::storage_target::rpc
