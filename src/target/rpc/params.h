#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/uuid.h"
#include "jsonrpc/protocol.h"

namespace sma::target::rpc {

using jsonrpc::Json;

// Each sets `*out` and says true when `value` is of the type, and in its range.
bool FromJson(const Json& value, bool* out);
bool FromJson(const Json& value, int32_t* out);
bool FromJson(const Json& value, uint8_t* out);
bool FromJson(const Json& value, uint16_t* out);
bool FromJson(const Json& value, uint32_t* out);
bool FromJson(const Json& value, uint64_t* out);
bool FromJson(const Json& value, std::string* out);  // without a NUL inside
bool FromJson(const Json& value, base::Uuid* out);   // the text form
bool FromJson(const Json& value, Json* out);         // anything

template <typename T>
bool FromJson(const Json& value, std::vector<T>* out) {
  if (!value.is_array()) return false;
  out->clear();
  for (const Json& element : value) {
    if (!FromJson(element, &out->emplace_back())) return false;
  }
  return true;
}

template <typename T>
bool FromJson(const Json& value, std::optional<T>* out) {
  return FromJson(value, &out->emplace());
}

/// One member of an object to decode; made by Required, Optional and Ignored.
struct Field {
  std::string_view name;
  bool required;
  std::function<bool(const Json& value)> decode;
};

template <typename T>
Field Required(std::string_view name, T* out) {
  return {name, true, [out](const Json& value) { return FromJson(value, out); }};
}

/// `*out` stays as it is when the member is missing.
template <typename T>
Field Optional(std::string_view name, T* out) {
  return {name, false, [out](const Json& value) { return FromJson(value, out); }};
}

/// A parameter that SPDK's method has and that means nothing here: taken with any value.
inline Field Ignored(std::string_view name) {
  return {name, false, [](const Json&) { return true; }};
}

/// Decodes `params`, an object (null stands for an empty one), as SPDK does: false when it is
/// something else, has a member that is not named or of the wrong type, or lacks a required one.
/// Some fields may be set all the same then. Also good for objects inside of parameters.
bool Decode(const Json& params, std::initializer_list<Field> fields);

}  // namespace sma::target::rpc
