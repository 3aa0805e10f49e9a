#include "target/rpc/rpc_server.h"

#include <algorithm>

namespace sma::target::rpc {
namespace {

// SPDK's own code and words (its JSON-RPC documentation, "framework_start_init").
constexpr int kInvalidState = -1;
constexpr char kTooLate[] =
    "Method may only be called before framework is initialized. Use --wait-for-rpc command line "
    "parameter and then issue this RPC before the framework_start_init RPC.";
constexpr char kTooEarly[] =
    "Method may only be called after framework is initialized using framework_start_init RPC.";

}  // namespace

struct Reply::State {
  explicit State(std::function<void(RpcResult)> a) : answer(std::move(a)) {}
  ~State() {
    if (answer) answer(InternalError());
  }
  std::function<void(RpcResult)> answer;
};

Reply::Reply(std::function<void(RpcResult)> answer)
    : state_(std::make_shared<State>(std::move(answer))) {}

void Reply::operator()(RpcResult result) const {
  if (auto answer = std::exchange(state_->answer, nullptr)) answer(std::move(result));
}

void RpcServer::Register(const std::string& method, Handler handler, Phase phase) {
  RegisterAsync(
      method,
      [handler = std::move(handler)](const Json& params, const Reply& reply) {
        reply(handler(params));
      },
      phase);
}

void RpcServer::RegisterAsync(const std::string& method, AsyncHandler handler, Phase phase) {
  methods_[method] = {std::move(handler), phase};
  server_.Register(method, [this, method](const Json& params, const jsonrpc::Responder& responder) {
    Call(method, params, Reply([responder](RpcResult result) {
           if (result.ok()) {
             responder.Result(result.result());
           } else {
             responder.Error(result.error().code, result.error().message);
           }
         }));
  });
}

void RpcServer::Restrict(const std::vector<std::string>& methods) {
  std::erase_if(methods_, [&](const auto& entry) {
    return std::find(methods.begin(), methods.end(), entry.first) == methods.end();
  });
}

void RpcServer::Call(std::string_view method, const Json& params, Reply reply) const {
  auto found = methods_.find(method);
  if (found == methods_.end()) {
    reply(RpcError{jsonrpc::kMethodNotFound, "Method not found"});
  } else if (!MayBeCalled(found->second)) {
    reply(RpcError{kInvalidState, phase_ == Phase::kRuntime ? kTooLate : kTooEarly});
  } else {
    found->second.handler(params, std::move(reply));
  }
}

std::vector<std::string> RpcServer::methods(bool current) const {
  std::vector<std::string> names;
  for (const auto& [name, method] : methods_) {
    if (!current || MayBeCalled(method)) names.push_back(name);
  }
  return names;
}

}  // namespace sma::target::rpc
