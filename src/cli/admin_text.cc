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
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr std::string_view kStatePrefix = "STATE_";

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
      return Colour::kRed;
    default:
      return Colour::kNone;
  }
}

// What comes from elsewhere must not steer the terminal.
std::string Printable(const std::string& text) { return absl::Utf8SafeCHexEscape(text); }

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
  return Printable(reflection.GetRepeatedMessage(message, &field, i).ShortDebugString());
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
  switch (type) {
    case DEVICE_TYPE_NVMF_TCP:
      return "nvmf-tcp";
    case DEVICE_TYPE_NVME:
      return "nvme";
    case DEVICE_TYPE_VIRTIO_BLK:
      return "virtio-blk";
    default:
      return "-";
  }
}

DeviceType ParseDeviceType(const std::string& name) {
  for (DeviceType type : {DEVICE_TYPE_NVMF_TCP, DEVICE_TYPE_NVME, DEVICE_TYPE_VIRTIO_BLK}) {
    if (DeviceTypeText(type) == name) return type;
  }
  return DEVICE_TYPE_INVALID;
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
    const bool is_true = condition.status() == admin::v1::Condition::STATUS_TRUE;
    std::string text =
        fmt::format("{} ({})", is_true ? "yes" : "no", Printable(condition.reason()));
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
