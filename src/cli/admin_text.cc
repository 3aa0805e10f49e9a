// SPDX-License-Identifier: Apache-2.0

#include "cli/admin_text.h"

#include <fmt/format.h>
#include <google/protobuf/util/time_util.h>

#include <map>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/uuid.h"

namespace sma::cli {

std::string Printable(const std::string& text) { return absl::Utf8SafeCHexEscape(text); }

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr std::string_view kStatePrefix = "STATE_";
constexpr std::string_view kDeviceTypePrefix = "DEVICE_TYPE_";

Colour ColourOf(admin::v1::State state) {
  switch (state) {
    case admin::v1::STATE_READY:
      return Colour::kGreen;
    case admin::v1::STATE_CREATING:
    case admin::v1::STATE_RESTORING:
    case admin::v1::STATE_DELETING:
      return Colour::kYellow;
    case admin::v1::STATE_DEGRADED:
    case admin::v1::STATE_KEY_NEEDED:
    case admin::v1::STATE_UNKNOWN:
      return Colour::kRed;
    default:
      return Colour::kNone;
  }
}

std::string Scalar(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return Printable(reflection.GetString(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field) ? "yes" : "no";
    case FieldDescriptor::CPPTYPE_UINT32:
      return std::to_string(reflection.GetUInt32(message, &field));
    default:
      return Printable(message.ShortDebugString());
  }
}

std::string Repeated(const Message& message, const FieldDescriptor& field, int i) {
  const Reflection& reflection = *message.GetReflection();
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
    return Printable(reflection.GetRepeatedString(message, &field, i));
  }
  const Message& element = reflection.GetRepeatedMessage(message, &field, i);
  if (const auto* address = dynamic_cast<const nvmf::Address*>(&element)) {
    const std::string& host = address->traddr();
    const bool is_v6 = host.find(':') != std::string::npos;
    return Printable(fmt::format("{}:{}:{}", absl::AsciiStrToLower(address->trtype()),
                                 is_v6 ? "[" + host + "]" : host, address->trsvcid()));
  }
  return Printable(element.ShortDebugString());
}

const char* Answer(admin::v1::Condition::Status status) {
  if (status == admin::v1::Condition::STATUS_TRUE) return "yes";
  return status == admin::v1::Condition::STATUS_FALSE ? "no" : "unknown";
}

}  // namespace

Cell StateCell(admin::v1::State state) {
  std::string name = admin::v1::State_Name(state);
  if (name.empty() || state == admin::v1::STATE_UNSPECIFIED) return "unknown";
  name = absl::AsciiStrToLower(name.substr(kStatePrefix.size()));
  return {absl::StrReplaceAll(name, {{"_", " "}}), ColourOf(state)};
}

std::string TimeText(const google::protobuf::Timestamp& time) {
  using google::protobuf::util::TimeUtil;
  if (time.seconds() <= 0 || time.seconds() > TimeUtil::kTimestampMaxSeconds) return "-";
  return TimeUtil::ToString(TimeUtil::SecondsToTimestamp(time.seconds()));
}

std::string DeviceTypeText(DeviceType type) {
  if (type == DEVICE_TYPE_INVALID || !DeviceType_IsValid(type)) return "-";
  const std::string name = DeviceType_Name(type).substr(kDeviceTypePrefix.size());
  return absl::StrReplaceAll(absl::AsciiStrToLower(name), {{"_", "-"}});
}

std::string DeviceTypeNames() {
  std::vector<std::string> names;
  const auto* types = DeviceType_descriptor();
  for (int i = 0; i < types->value_count(); ++i) {
    const auto type = static_cast<DeviceType>(types->value(i)->number());
    if (type != DEVICE_TYPE_INVALID) names.push_back(DeviceTypeText(type));
  }
  return absl::StrJoin(names, ", ");
}

absl::StatusOr<DeviceType> ParseDeviceType(const std::string& name) {
  const auto* types = DeviceType_descriptor();
  for (int i = 0; i < types->value_count(); ++i) {
    const auto type = static_cast<DeviceType>(types->value(i)->number());
    if (type != DEVICE_TYPE_INVALID && DeviceTypeText(type) == name) return type;
  }
  return absl::InvalidArgumentError(
      fmt::format("unknown device type '{}' (known: {})", name, DeviceTypeNames()));
}

std::string VolumeText(const std::string& volume_id) {
  std::optional<base::Uuid> uuid = base::Uuid::FromBytes(volume_id);
  return uuid ? uuid->ToString() : absl::BytesToHexString(volume_id);
}

std::string ErrorText(const admin::v1::Error& error) {
  const auto code = static_cast<absl::StatusCode>(error.code());
  return fmt::format("{}: {} ({})", absl::StatusCodeToString(code), Printable(error.message()),
                     TimeText(error.time()));
}

void AddConditions(const google::protobuf::RepeatedPtrField<admin::v1::Condition>& conditions,
                   Properties& properties) {
  for (const admin::v1::Condition& condition : conditions) {
    std::string text =
        fmt::format("{} ({})", Answer(condition.status()), Printable(condition.reason()));
    if (condition.has_since()) text += " since " + TimeText(condition.since());
    if (!condition.message().empty()) text += ": " + Printable(condition.message());
    properties.Add(Printable(condition.type()), text);
  }
}

void AddParams(const Message& params, Properties& properties) {
  const Reflection& reflection = *params.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(params, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string name(field->name());
    if (field->is_repeated()) {
      for (int i = 0; i < reflection.FieldSize(params, field); ++i) {
        properties.Add(name, Repeated(params, *field, i));
      }
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      AddParams(reflection.GetMessage(params, field), properties);
    } else {
      properties.Add(name, Scalar(params, *field));
    }
  }
}

}  // namespace sma::cli
