#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <string>
#include <utility>

#include "agent/service/unary_call.h"

namespace sma::service {

/// Parses `message`, as it was received, into `request` and overwrites it: its bytes lie in the
/// read buffer of their connection, which gRPC keeps until it is full or the connection ends.
/// Returns false if it is not a valid message. Only for messages from a socket: those of an
/// in-process channel are the sender's.
bool ParseAndWipe(const grpc::ByteBuffer& message, google::protobuf::Message& request);

/// As ParseAndWipe(); null if it is not a valid message.
template <typename Request>
std::shared_ptr<const Request> TakeMessage(const grpc::ByteBuffer& message) {
  auto request = std::make_shared<Request>();
  return ParseAndWipe(message, *request) ? request : nullptr;
}

/// Ends a call whose message is not valid, with the status that gRPC gives such calls.
grpc::ServerUnaryReactor* RefuseMessage(grpc::CallbackServerContext& context);

/// Serializes `response` into `buffer`.
absl::Status WriteResponse(const google::protobuf::Message& response, grpc::ByteBuffer& buffer);

/// As StartCall(), of a method that changes something, for a request that TakeMessage() returned;
/// it is released when the call has ended.
template <typename Response, typename Request, typename Handler>
grpc::ServerUnaryReactor* StartRawCall(const CallEnvironment& environment,
                                       const grpc::CallbackServerContext& server_context,
                                       const char* method, std::shared_ptr<const Request> request,
                                       grpc::ByteBuffer* buffer, Handler handler,
                                       std::string lane) {
  LogRequest(method, *request);
  std::string object = ObjectOf(*request);
  auto work = [request = std::move(request), buffer, handler](const base::Context& context) {
    absl::StatusOr<Response> result = handler(context, *request);
    if (!result.ok()) return result.status();
    return WriteResponse(*result, *buffer);
  };
  return UnaryCall::Start(environment, server_context, method, Access::kChanges, std::move(object),
                          std::move(work), std::move(lane));
}

}  // namespace sma::service
