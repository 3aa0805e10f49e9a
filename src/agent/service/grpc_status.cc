#include "agent/service/grpc_status.h"

#include <string>

namespace sma::service {
namespace {

// Each byte of a message may take three on the wire (gRPC over HTTP/2, "Percent-Encoded").
constexpr size_t kMaxMessageBytes = 2048;

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::string message(status.message());
  if (message.size() > kMaxMessageBytes) {
    size_t end = kMaxMessageBytes;
    // Not within a character of UTF-8.
    while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xc0) == 0x80) --end;
    message.resize(end);
    message += "...";
  }
  // code() gives a canonical code for every status; those of gRPC have the same numbers.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message);
}

}  // namespace sma::service
