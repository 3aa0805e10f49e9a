// SPDX-License-Identifier: Apache-2.0

#include "agent/service/raw_call.h"

#include <string.h>

#include <vector>

#include "base/secret.h"

namespace sma::service {

bool ParseAndWipe(const grpc::ByteBuffer& message, google::protobuf::Message& request) {
  std::vector<grpc::Slice> slices;
  if (!message.Valid() || !message.Dump(&slices).ok()) return false;
  std::string text;
  text.reserve(message.Length());
  for (const grpc::Slice& slice : slices) {
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    ::explicit_bzero(const_cast<uint8_t*>(slice.begin()), slice.size());
  }
  const bool is_valid = request.ParseFromString(text);
  base::WipeString(text);
  return is_valid;
}

grpc::ServerUnaryReactor* RefuseMessage(grpc::CallbackServerContext& context) {
  grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
  reactor->Finish(grpc::Status(grpc::StatusCode::INTERNAL, "the request is not a valid message"));
  return reactor;
}

absl::Status WriteResponse(const google::protobuf::Message& response, grpc::ByteBuffer& buffer) {
  const grpc::Slice slice(response.SerializeAsString());
  buffer = grpc::ByteBuffer(&slice, 1);
  return absl::OkStatus();
}

}  // namespace sma::service
