// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <string>
#include <utility>

#include "agent/service/unary_call.h"

namespace sma::service {

/// Parses the received `message` into `request` and overwrites its bytes, which are in the read
/// buffer of their connection; gRPC keeps that buffer until it is full or the connection ends.
/// Returns false if the message is invalid. Use this only for messages from a socket: messages of
/// an in-process channel belong to the sender.
bool ParseAndWipe(const grpc::ByteBuffer& message, google::protobuf::Message& request);

/// Like ParseAndWipe(). Returns null if the message is invalid.
template <typename Request>
std::shared_ptr<const Request> TakeMessage(const grpc::ByteBuffer& message) {
  auto request = std::make_shared<Request>();
  return ParseAndWipe(message, *request) ? request : nullptr;
}

/// Ends a call whose message is invalid, with the status that gRPC uses for such calls.
grpc::ServerUnaryReactor* RefuseMessage(grpc::CallbackServerContext& context);

/// Serializes `response` into `buffer`.
absl::Status WriteResponse(const google::protobuf::Message& response, grpc::ByteBuffer& buffer);

/// Like StartCall() for a method that makes changes, with a request from TakeMessage(), which is
/// released when the call has ended.
template <typename Response, typename Request, typename Handler>
grpc::ServerUnaryReactor* StartRawCall(const CallEnvironment& environment,
                                       const grpc::CallbackServerContext& server_context,
                                       const char* method, std::shared_ptr<const Request> request,
                                       grpc::ByteBuffer* buffer, Handler handler,
                                       api::Neighbour lane) {
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
