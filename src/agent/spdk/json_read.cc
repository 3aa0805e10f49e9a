// SPDX-License-Identifier: Apache-2.0

#include "agent/spdk/json_read.h"

namespace sma::spdk {

using jsonrpc::Json;

const Json* Member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

std::optional<uint64_t> AsUint(const Json& value) {
  bool is_uint = value.is_number_unsigned() || (value.is_number_integer() && value >= 0);
  return is_uint ? std::optional(value.get<uint64_t>()) : std::nullopt;
}

std::optional<std::string> StringMember(const Json& object, const char* name) {
  const Json* member = Member(object, name);
  if (member == nullptr || !member->is_string()) return std::nullopt;
  return member->get<std::string>();
}

std::optional<uint64_t> UintMember(const Json& object, const char* name) {
  const Json* member = Member(object, name);
  return member == nullptr ? std::nullopt : AsUint(*member);
}

std::optional<bool> BoolMember(const Json& object, const char* name) {
  const Json* member = Member(object, name);
  if (member == nullptr || !member->is_boolean()) return std::nullopt;
  return member->get<bool>();
}

std::vector<const Json*> ElementsOf(const Json& object, const char* name) {
  std::vector<const Json*> elements;
  const Json* member = Member(object, name);
  if (member == nullptr || !member->is_array()) return elements;
  for (const Json& element : *member) elements.push_back(&element);
  return elements;
}

}  // namespace sma::spdk
