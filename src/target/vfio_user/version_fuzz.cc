// The first message of a client.

#include <cstdint>
#include <cstdlib>
#include <span>

#include "target/vfio_user/version.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  auto client = sma::target::vfio_user::ParseVersion(std::as_bytes(std::span(bytes, size)));
  if (!client) return 0;
  // The reply is one that this side would take.
  const std::string reply = sma::target::vfio_user::MakeVersionReply(*client);
  if (!sma::target::vfio_user::ParseVersion(std::as_bytes(std::span(reply)))) std::abort();
  return 0;
}
