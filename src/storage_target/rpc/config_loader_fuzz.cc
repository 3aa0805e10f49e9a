// SPDX-License-Identifier: Apache-2.0

// Checks that a configuration file with arbitrary contents is either rejected with a reason, or
// that each of its calls is executed once.

#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "jsonrpc/server.h"
#include "storage_target/rpc/config_loader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using sma::jsonrpc::Json;
  using namespace sma::storage_target::rpc;
  static sma::jsonrpc::Server jsonrpc;
  RpcServer server(jsonrpc);
  std::vector<Reply> later;
  size_t calls = 0;
  server.Register("now", [&calls](const Json& params) -> RpcResult {
    ++calls;
    return params;
  });
  server.RegisterAsync("later", [&](const Json&, const Reply& reply) {
    ++calls;
    later.push_back(reply);
  });
  server.set_phase(Phase::kRuntime);

  auto loader =
      ConfigLoader::Parse(server, std::string_view(reinterpret_cast<const char*>(bytes), size));
  if (!loader.ok()) {
    if (loader.status().message().empty()) std::abort();
    return 0;
  }
  bool ended = false;
  size_t unknown = 0;
  loader->Run(
      [&ended](const absl::Status& status) {
        if (ended || !status.ok()) std::abort();
        ended = true;
      },
      [&unknown](const absl::Status& /*error*/) {
        ++unknown;
        return true;
      });
  while (!later.empty()) {
    if (ended) std::abort();
    Reply reply = later.back();
    later.pop_back();
    reply(Json(true));
  }
  if (!ended || calls + unknown != loader->call_count()) std::abort();
  return 0;
}
