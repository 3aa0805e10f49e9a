// SPDX-License-Identifier: Apache-2.0

// Fuzzes the first message of a client.

#include <cstdint>
#include <cstdlib>
#include <span>

#include "storage_target/vfio_user/version.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  auto client = sma::storage_target::vfio_user::ParseVersion(std::as_bytes(std::span(bytes, size)));
  if (!client) return 0;
  // The server's parser must accept the reply.
  const std::string reply = sma::storage_target::vfio_user::MakeVersionReply(*client);
  if (!sma::storage_target::vfio_user::ParseVersion(std::as_bytes(std::span(reply)))) std::abort();
  return 0;
}
