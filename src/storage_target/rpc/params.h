// SPDX-License-Identifier: Apache-2.0

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

namespace sma::storage_target::rpc {

using jsonrpc::Json;

// Set `*out` and return true if `value` has the right type and range. An integer may also be
// written with a fraction of zero or an exponent (2048.0, 2.048e3), which SPDK's JSON parser also
// accepts.
bool FromJson(const Json& value, bool* out);
bool FromJson(const Json& value, int32_t* out);
bool FromJson(const Json& value, uint8_t* out);
bool FromJson(const Json& value, uint16_t* out);
bool FromJson(const Json& value, uint32_t* out);
bool FromJson(const Json& value, uint64_t* out);
bool FromJson(const Json& value, std::string* out);  // without NUL characters
bool FromJson(const Json& value, base::Uuid* out);   // in text form
bool FromJson(const Json& value, Json* out);         // any value

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

/// A member to decode from an object; created by Required, Optional and Ignored.
struct Field {
  std::string_view name;
  bool required;
  std::function<bool(const Json& value)> decode;
};

template <typename T>
Field Required(std::string_view name, T* out) {
  return {name, true, [out](const Json& value) { return FromJson(value, out); }};
}

/// Leaves `*out` unchanged if the member is missing.
template <typename T>
Field Optional(std::string_view name, T* out) {
  return {name, false, [out](const Json& value) { return FromJson(value, out); }};
}

/// A parameter of SPDK's method that has no meaning here: any value is accepted.
inline Field Ignored(std::string_view name) {
  return {name, false, [](const Json&) { return true; }};
}

/// Decodes `params`, an object (null counts as an empty one), as SPDK does: returns false if it has
/// another type, contains a member that is not listed or has the wrong type, or lacks a required
/// member. Some fields may have been set in that case. Also usable for nested objects.
bool Decode(const Json& params, std::initializer_list<Field> fields);

/// Like Decode(), but ignores members that are not listed. Used for the methods whose parameters
/// SPDK decodes in this way: a client of a newer SPDK may send members that do not exist here.
bool DecodeRelaxed(const Json& params, std::initializer_list<Field> fields);

/// Collects the members that a handler decodes. While an object of this class exists, the first
/// Decode() or DecodeRelaxed() of its thread only lists its fields and returns false, so that the
/// handler ends with an error before it has changed anything. At most one object at a time in a
/// thread.
class FieldListing {
 public:
  struct Member {
    std::string name;
    bool required;
  };

  FieldListing();
  ~FieldListing();
  FieldListing(const FieldListing&) = delete;
  FieldListing& operator=(const FieldListing&) = delete;

  /// Returns the members; nullopt if the handler has decoded nothing, because it accepts any
  /// parameters.
  const std::optional<std::vector<Member>>& members() const { return members_; }
  /// Returns true if the handler ignores members that are not listed.
  bool is_relaxed() const { return is_relaxed_; }

 private:
  friend bool IsListed(std::initializer_list<Field> fields, bool is_relaxed);

  std::optional<std::vector<Member>> members_;
  bool is_relaxed_ = false;
};

}  // namespace sma::storage_target::rpc
