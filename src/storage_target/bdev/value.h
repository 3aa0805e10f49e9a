// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace sma::storage_target::bdev {

struct Value;
/// The members of an object, in display order.
using Object = std::vector<std::pair<std::string, Value>>;
using List = std::vector<Value>;

/// A tree of plain values with which a module describes itself, so that only the folder rpc depends
/// on JSON.
struct Value : std::variant<bool, int64_t, uint64_t, std::string, Object, List> {
  using variant::variant;
  Value(const char* text) : variant(std::string(text)) {}  // NOLINT(google-explicit-constructor)
  Value(int number) : variant(int64_t{number}) {}          // NOLINT(google-explicit-constructor)
  Value(uint32_t number) : variant(uint64_t{number}) {}    // NOLINT(google-explicit-constructor)
};

/// A JSON-RPC call that recreates an object in its current state, for a saved configuration.
struct ConfigCall {
  std::string method;
  Object params;
};

}  // namespace sma::storage_target::bdev
