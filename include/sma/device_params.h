// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "sma.pb.h"

/// Access to the parameters of a device type in messages through the names of fields, so that only
/// the type's own code has to change for a new type. Every message with device parameters has them
/// in a oneof named `params`, with the fields of CreateDeviceRequest.
namespace sma {

/// Returns the field of `params` that is set in `message`, which identifies the device's protocol;
/// null if none is set.
inline const google::protobuf::FieldDescriptor* ParamsField(
    const google::protobuf::Message& message) {
  const auto* params = message.GetDescriptor()->FindOneofByName("params");
  return params == nullptr ? nullptr
                           : message.GetReflection()->GetOneofFieldDescriptor(message, params);
}

/// Returns the parameters that are set in `message`; null if there are none.
inline const google::protobuf::Message* ParamsOf(const google::protobuf::Message& message) {
  const auto* field = ParamsField(message);
  return field == nullptr ? nullptr : &message.GetReflection()->GetMessage(message, field);
}

/// Copies the parameters of `from` to the field of the same name in `to`. Does nothing if `from`
/// has no parameters or `to` has no such field.
inline void CopyParams(const google::protobuf::Message& from, google::protobuf::Message& to) {
  const auto* source = ParamsField(from);
  if (source == nullptr) return;
  const auto* field = to.GetDescriptor()->FindFieldByName(source->name());
  if (field == nullptr || field->message_type() != source->message_type()) return;
  to.GetReflection()
      ->MutableMessage(&to, field)
      ->CopyFrom(from.GetReflection()->GetMessage(from, source));
}

/// Returns what distinguishes a device from others of its protocol: the first string in `params`
/// (for example an NQN), or else its numbers with `separator` between them. The string is returned
/// as the client wrote it, without escaping.
inline std::string ParamsIdentity(const google::protobuf::Message& params,
                                  std::string_view separator) {
  using google::protobuf::FieldDescriptor;
  std::string numbers;
  const auto* descriptor = params.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    if (field->is_repeated()) continue;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      return params.GetReflection()->GetString(params, field);
    }
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_UINT32) continue;
    if (!numbers.empty()) numbers += separator;
    absl::StrAppend(&numbers, params.GetReflection()->GetUInt32(params, field));
  }
  return numbers;
}

/// Returns the DeviceType of a protocol (DEVICE_TYPE_NVME for "nvme"), or DEVICE_TYPE_INVALID if
/// there is none.
inline DeviceType TypeOfProtocol(std::string_view protocol) {
  DeviceType type = DEVICE_TYPE_INVALID;
  const std::string name =
      "DEVICE_TYPE_" + absl::AsciiStrToUpper({protocol.data(), protocol.size()});
  return DeviceType_Parse(name, &type) ? type : DEVICE_TYPE_INVALID;
}

/// Returns the names of the fields of CreateDeviceRequest.params, with `separator` between them.
inline std::string Protocols(std::string_view separator) {
  std::string names;
  const auto* params = CreateDeviceRequest::descriptor()->FindOneofByName("params");
  for (int i = 0; i < params->field_count(); ++i) {
    if (i > 0) names += separator;
    names += params->field(i)->name();
  }
  return names;
}

}  // namespace sma
