// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/rpc_server.h"

#include <algorithm>
#include <cerrno>

#include "base/peer_log.h"
#include "jsonrpc/call_scope.h"
#include "storage_target/rpc/params.h"

namespace sma::storage_target::rpc {
namespace {

// SPDK's error code and message for a method that is called in the wrong phase (its JSON-RPC
// documentation, "framework_start_init").
constexpr int kInvalidState = -1;
constexpr char kTooLate[] =
    "Method may only be called before framework is initialized. Use --wait-for-rpc command line "
    "parameter and then issue this RPC before the framework_start_init RPC.";
constexpr char kTooEarly[] =
    "Method may only be called after framework is initialized using framework_start_init RPC.";

// The parameters that name a method's object, the most specific first. None of them is a secret.
constexpr const char* kObjectKeys[] = {"nqn",  "ctrlr",          "name",     "bdev_name",
                                       "bdev", "base_bdev_name", "key_name", "subnqn"};
constexpr size_t kMaxLoggedBytes = 256;

// Returns the name of the object of a call, for a log line; empty if it has none.
std::string_view ObjectOf(const Json& params) {
  if (!params.is_object()) return {};
  for (const char* key : kObjectKeys) {
    auto found = params.find(key);
    if (found == params.end() || !found->is_string()) continue;
    return std::string_view(found->get_ref<const std::string&>()).substr(0, kMaxLoggedBytes);
  }
  return {};
}

// A client may repeat a refused call as often as it likes. Each method has a limit of its own, so
// that a client that polls for an object does not hide other refusals. A query for an object that
// does not exist is no mistake.
void LogRefusal(const std::string& method, std::string_view object, const RpcError& error) {
  const bool is_query = error.code == -ENODEV && jsonrpc::OnlyReads(method);
  const auto level = is_query ? spdlog::level::debug : spdlog::level::info;
  base::LogOfPeers().Log(level, method, "JSON-RPC: {}{}{}: refused, {}: {}", method,
                         object.empty() ? "" : " ", object, error.code,
                         std::string_view(error.message).substr(0, kMaxLoggedBytes));
}

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
    // Copied, because the parameters do not outlive this call.
    std::string object(ObjectOf(params));
    Call(method, params, Reply([responder, method, object](RpcResult result) {
           if (result.ok()) {
             responder.Result(result.result());
           } else {
             LogRefusal(method, object, result.error());
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

RpcServer::Parameters RpcServer::ParametersOf(const std::string& method) const {
  auto found = methods_.find(method);
  if (found == methods_.end()) return {};
  const FieldListing listing;
  found->second.handler(Json(), Reply([](const RpcResult& /*refused*/) {}));
  Parameters parameters;
  // A handler that decodes nothing accepts any parameters.
  parameters.is_relaxed = !listing.members() || listing.is_relaxed();
  if (!listing.members()) return parameters;
  for (const FieldListing::Member& member : *listing.members()) {
    parameters.required[member.name] = member.required;
  }
  return parameters;
}

std::vector<std::string> RpcServer::methods(bool current) const {
  std::vector<std::string> names;
  for (const auto& [name, method] : methods_) {
    if (!current || MayBeCalled(method)) names.push_back(name);
  }
  return names;
}

}  // namespace sma::storage_target::rpc
