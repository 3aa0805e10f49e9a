#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace sma::target::bdev {

struct Value;
/// Members in the order in which they are shown.
using Object = std::vector<std::pair<std::string, Value>>;
using List = std::vector<Value>;

/// What a module tells about itself: a tree of plain values, so that JSON stays in the rpc folder.
struct Value : std::variant<bool, int64_t, uint64_t, std::string, Object, List> {
  using variant::variant;
  Value(const char* text) : variant(std::string(text)) {}  // NOLINT(google-explicit-constructor)
  Value(int number) : variant(int64_t{number}) {}          // NOLINT(google-explicit-constructor)
  Value(uint32_t number) : variant(uint64_t{number}) {}    // NOLINT(google-explicit-constructor)
};

/// A JSON-RPC call that makes something again as it is now, for a saved configuration.
struct ConfigCall {
  std::string method;
  Object params;
};

}  // namespace sma::target::bdev
