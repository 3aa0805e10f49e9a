// A configuration of any bytes is read or refused with a reason.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/config/parse.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  absl::StatusOr<sma::config::Config> config = sma::config::Parse(text, "fuzz.yaml", {}, "");
  if (!config.ok() && !std::string(config.status().message()).starts_with("fuzz.yaml:"))
    std::abort();
  return 0;
}
