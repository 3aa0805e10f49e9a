#pragma once

#include <google/protobuf/message.h>
#include <google/protobuf/timestamp.pb.h>

#include <string>

#include "cli/output.h"
#include "sma_admin.pb.h"

namespace sma::cli {

// How what the admin service tells is written for people.

/// "ready" in green, "degraded" in red.
Cell StateCell(admin::v1::State state);

/// "2026-01-31T12:00:00Z"; "-" for none.
std::string TimeText(const google::protobuf::Timestamp& time);

/// "nvmf-tcp", as on the command line.
std::string DeviceTypeText(DeviceType type);

/// The device type of that name, as DeviceTypeText; DEVICE_TYPE_INVALID for any other.
DeviceType ParseDeviceType(const std::string& name);

/// The UUID of a volume's 16 bytes; what is no UUID as it is, in hexadecimal digits.
std::string VolumeText(const std::string& volume_id);

/// "NOT_FOUND: there is no bdev (2026-01-31T12:00:00Z)", on one line.
std::string ErrorText(const admin::v1::Error& error);

/// A line for each field of `params` that is set, by its name in the protocol.
void AddParams(const google::protobuf::Message& params, Properties& properties);

/// A line for each condition: "yes" or "no", and what there is to say about it.
void AddConditions(const google::protobuf::RepeatedPtrField<admin::v1::Condition>& conditions,
                   Properties& properties);

}  // namespace sma::cli
