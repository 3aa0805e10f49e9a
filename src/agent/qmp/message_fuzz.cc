// SPDX-License-Identifier: Apache-2.0

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/qmp/message.h"
#include "jsonrpc/splitter.h"

// The input stands for data from QEMU, or from another process that listens at its address.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sma::jsonrpc::Splitter input(1 << 20);
  input.Append({reinterpret_cast<const char*>(data), size});
  std::string_view text;
  while (input.Next(text) == sma::jsonrpc::Splitter::Outcome::kValue) {
    if (auto value = sma::jsonrpc::Parse(text)) sma::qmp::Decode(*std::move(value));
  }
  return 0;
}
