// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/protocol.h"

#include <utility>

namespace sma::jsonrpc {

std::optional<Json> Parse(std::string_view text) {
  Json value = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return std::nullopt;
  return value;
}

}  // namespace sma::jsonrpc
