// SPDX-License-Identifier: Apache-2.0

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "jsonrpc/message.h"
#include "jsonrpc/splitter.h"

namespace sma::jsonrpc {
namespace {

constexpr size_t kMaxValueBytes = 4096;

struct Split {
  std::vector<std::string> values;
  Splitter::Outcome end = Splitter::Outcome::kNeedMore;

  bool operator==(const Split&) const = default;
};

Split SplitAll(std::string_view stream, size_t piece_bytes) {
  Splitter splitter(kMaxValueBytes);
  Split split;
  for (size_t at = 0; at < stream.size(); at += piece_bytes) {
    splitter.Append(stream.substr(at, piece_bytes));
    std::string_view value;
    while ((split.end = splitter.Next(value)) == Splitter::Outcome::kValue) {
      split.values.emplace_back(value);
    }
  }
  return split;
}

}  // namespace
}  // namespace sma::jsonrpc

// The first byte selects how the stream is divided; the result must not depend on it. The values
// are passed to the parser and the client's decoder.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sma::jsonrpc;  // NOLINT(google-build-using-namespace)
  if (size < 2) return 0;
  std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  Split split = SplitAll(stream, 1 + data[0]);
  if (split != SplitAll(stream, stream.size())) std::abort();
  for (const std::string& text : split.values) {
    if (text.size() > kMaxValueBytes) std::abort();
    std::vector<Answer> answers;
    if (std::optional<Json> value = Parse(text)) DecodeAnswers(*std::move(value), answers);
  }
  return 0;
}
