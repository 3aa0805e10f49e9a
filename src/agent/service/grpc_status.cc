// SPDX-License-Identifier: Apache-2.0

#include "agent/service/grpc_status.h"

#include <string>

namespace sma::service {
namespace {

// Each byte of a message may take three bytes on the wire (gRPC over HTTP/2, "Percent-Encoded").
constexpr size_t kMaxMessageBytes = 2048;

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::string message(status.message());
  if (message.size() > kMaxMessageBytes) {
    size_t end = kMaxMessageBytes;
    // Do not cut in the middle of a UTF-8 character.
    while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xc0) == 0x80) --end;
    message.resize(end);
    message += "...";
  }
  // code() always returns a canonical code, and gRPC's codes have the same numbers.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message);
}

}  // namespace sma::service
