#include "target/rpc/params.h"

#include <algorithm>
#include <limits>

namespace sma::target::rpc {
namespace {

template <typename T>
bool UnsignedFromJson(const Json& value, T* out) {
  if (!value.is_number_integer()) return false;
  if (!value.is_number_unsigned() && value.get<int64_t>() < 0) return false;
  auto number = value.get<uint64_t>();
  if (number > std::numeric_limits<T>::max()) return false;
  *out = static_cast<T>(number);
  return true;
}

}  // namespace

bool FromJson(const Json& value, bool* out) {
  if (!value.is_boolean()) return false;
  *out = value.get<bool>();
  return true;
}

bool FromJson(const Json& value, int32_t* out) {
  if (!value.is_number_integer()) return false;
  // An unsigned number beyond int64_t's range would wrap in get<int64_t>().
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT32_MAX) return false;
  auto number = value.get<int64_t>();
  if (number < INT32_MIN || number > INT32_MAX) return false;
  *out = static_cast<int32_t>(number);
  return true;
}

bool FromJson(const Json& value, uint8_t* out) { return UnsignedFromJson(value, out); }
bool FromJson(const Json& value, uint16_t* out) { return UnsignedFromJson(value, out); }
bool FromJson(const Json& value, uint32_t* out) { return UnsignedFromJson(value, out); }
bool FromJson(const Json& value, uint64_t* out) { return UnsignedFromJson(value, out); }

bool FromJson(const Json& value, std::string* out) {
  if (!value.is_string()) return false;
  const auto& text = value.get_ref<const std::string&>();
  if (text.find('\0') != std::string::npos) return false;
  *out = text;
  return true;
}

bool FromJson(const Json& value, base::Uuid* out) {
  if (!value.is_string()) return false;
  std::optional<base::Uuid> uuid = base::Uuid::Parse(value.get_ref<const std::string&>());
  if (!uuid) return false;
  *out = *uuid;
  return true;
}

bool FromJson(const Json& value, Json* out) {
  *out = value;
  return true;
}

bool Decode(const Json& params, std::initializer_list<Field> fields) {
  if (!params.is_object() && !params.is_null()) return false;
  if (params.is_object()) {
    for (auto member = params.begin(); member != params.end(); ++member) {
      const auto* field = std::find_if(fields.begin(), fields.end(),
                                       [&](const Field& f) { return f.name == member.key(); });
      if (field == fields.end() || !field->decode(*member)) return false;
    }
  }
  return std::all_of(fields.begin(), fields.end(), [&](const Field& field) {
    return !field.required || (params.is_object() && params.contains(field.name));
  });
}

}  // namespace sma::target::rpc
