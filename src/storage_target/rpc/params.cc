// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/params.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sma::storage_target::rpc {

bool IsListed(std::initializer_list<Field> fields, bool is_relaxed);

namespace {

// Above 2^53, a double is not exact.
constexpr double kMaxExact = 9007199254740992;

// Converts a number with a fraction or an exponent to the integer that it represents; returns other
// values unchanged.
Json AsInteger(const Json& value) {
  if (!value.is_number_float()) return value;
  const auto number = value.get<double>();
  if (std::trunc(number) != number || std::abs(number) > kMaxExact) return value;
  return static_cast<int64_t>(number);
}

template <typename T>
bool UnsignedFromJson(const Json& given, T* out) {
  const Json value = AsInteger(given);
  if (!value.is_number_integer()) return false;
  if (!value.is_number_unsigned() && value.get<int64_t>() < 0) return false;
  auto number = value.get<uint64_t>();
  if (number > std::numeric_limits<T>::max()) return false;
  *out = static_cast<T>(number);
  return true;
}

thread_local FieldListing* listing_of_thread = nullptr;

bool DecodeFields(const Json& params, std::initializer_list<Field> fields, bool is_relaxed) {
  if (IsListed(fields, is_relaxed)) return false;
  if (!params.is_object() && !params.is_null()) return false;
  if (params.is_object()) {
    for (auto member = params.begin(); member != params.end(); ++member) {
      const auto* field = std::find_if(fields.begin(), fields.end(),
                                       [&](const Field& f) { return f.name == member.key(); });
      if (field == fields.end() ? !is_relaxed : !field->decode(*member)) return false;
    }
  }
  return std::all_of(fields.begin(), fields.end(), [&](const Field& field) {
    return !field.required || (params.is_object() && params.contains(field.name));
  });
}

}  // namespace

bool FromJson(const Json& value, bool* out) {
  if (!value.is_boolean()) return false;
  *out = value.get<bool>();
  return true;
}

bool FromJson(const Json& given, int32_t* out) {
  const Json value = AsInteger(given);
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
  return DecodeFields(params, fields, /*is_relaxed=*/false);
}

bool DecodeRelaxed(const Json& params, std::initializer_list<Field> fields) {
  return DecodeFields(params, fields, /*is_relaxed=*/true);
}

FieldListing::FieldListing() { listing_of_thread = this; }
FieldListing::~FieldListing() { listing_of_thread = nullptr; }

// Returns true if the caller only requested the list of fields.
bool IsListed(std::initializer_list<Field> fields, bool is_relaxed) {
  FieldListing* listing = listing_of_thread;
  if (listing == nullptr) return false;
  if (!listing->members_) {
    listing->is_relaxed_ = is_relaxed;
    listing->members_.emplace();
    for (const Field& field : fields) {
      listing->members_->push_back({std::string(field.name), field.required});
    }
  }
  return true;
}

}  // namespace sma::storage_target::rpc
