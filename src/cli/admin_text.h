// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <google/protobuf/message.h>
#include <google/protobuf/timestamp.pb.h>

#include <string>

#include "absl/status/statusor.h"
#include "cli/limits.h"
#include "cli/output.h"
#include "sma_admin.pb.h"

namespace sma::cli {

// Converts messages of the admin service to human-readable text.

/// Escapes control characters: text from the agent must not control the terminal.
std::string Printable(const std::string& text);

/// Returns the state, with its colour: for example "ready" in green, "degraded" in red.
Cell StateCell(admin::v1::State state);

/// Returns a time in the form "2026-01-31T12:00:00Z", or "-" if it is not set.
std::string TimeText(const google::protobuf::Timestamp& time);

/// Returns the name of a device type on the command line, for example "nvmf-tcp".
std::string DeviceTypeText(DeviceType type);

/// Returns the names of all device types, separated by commas.
std::string DeviceTypeNames();

/// Parses the result of DeviceTypeText. Returns INVALID_ARGUMENT if there is no such device type.
absl::StatusOr<DeviceType> ParseDeviceType(const std::string& name);

/// Returns a volume id of 16 bytes as a UUID, and one of any other length as hexadecimal digits.
std::string VolumeText(const std::string& volume_id);

/// Returns an error on one line, in the form "NOT_FOUND: there is no bdev (2026-01-31T12:00:00Z)".
std::string ErrorText(const admin::v1::Error& error);

/// Adds a line for each field of `params` that is set, with the field's name in the .proto file.
void AddParams(const google::protobuf::Message& params, Properties& properties);

/// Adds a line for each condition: "yes", "no" or "unknown", its reason, since when, its message.
void AddConditions(const google::protobuf::RepeatedPtrField<admin::v1::Condition>& conditions,
                   Properties& properties);

/// Adds the lines that come last for both devices and volumes: limits, conditions and the last
/// error.
template <typename Object>
void AddCommon(const Object& object, Properties& properties) {
  AddLimits(object.qos(), properties);
  AddConditions(object.conditions(), properties);
  if (object.has_last_error()) {
    properties.Add("last error", {ErrorText(object.last_error()), Colour::kRed});
  }
}

}  // namespace sma::cli
