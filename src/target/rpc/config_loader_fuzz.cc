// A configuration file with anything in it: refused with a reason, or each of its calls is made
// once.

#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "jsonrpc/server.h"
#include "target/rpc/config_loader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using sma::jsonrpc::Json;
  using namespace sma::target::rpc;
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
  loader->Run([&ended](const absl::Status& status) {
    if (ended || !status.ok()) std::abort();
    ended = true;
  });
  while (!later.empty()) {
    if (ended) std::abort();
    Reply reply = later.back();
    later.pop_back();
    reply(Json(true));
  }
  if (!ended || calls != loader->call_count()) std::abort();
  return 0;
}
