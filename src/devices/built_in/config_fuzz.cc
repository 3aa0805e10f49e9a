// SPDX-License-Identifier: Apache-2.0

// Checks that any bytes given as a configuration are either accepted or rejected with a reason.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "agent/config/parse.h"
#include "devices/built_in/built_in.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  static const std::vector<sma::config::DeviceType> types = sma::devices::ConfigurationTypes();
  absl::StatusOr<sma::config::Config> config = sma::config::Parse(text, "fuzz.yaml", {}, "", types);
  if (!config.ok() && !std::string(config.status().message()).starts_with("fuzz.yaml:"))
    std::abort();
  return 0;
}
