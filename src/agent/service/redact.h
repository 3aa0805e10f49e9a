// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "sma.pb.h"
#include "sma_admin.pb.h"

namespace sma::service {

/// Returns a request as one line for the log: volume ids as UUIDs, keys and CHAP secrets as
/// "redacted", without unknown fields. Thread-safe.
std::string Redacted(const google::protobuf::Message& message);

/// Returns a short description of the object of a call, without secrets: the handle, the volume, or
/// the identifying fields of a new device. Text from the client is escaped and truncated.
std::string ObjectOf(const CreateDeviceRequest& request);
std::string ObjectOf(const DeleteDeviceRequest& request);
std::string ObjectOf(const AttachVolumeRequest& request);
std::string ObjectOf(const DetachVolumeRequest& request);
std::string ObjectOf(const SetQosRequest& request);
std::string ObjectOf(const GetQosCapabilitiesRequest& request);
std::string ObjectOf(const admin::v1::GetDeviceRequest& request);
std::string ObjectOf(const admin::v1::GetVolumeRequest& request);
std::string ObjectOf(const admin::v1::AdoptDeviceRequest& request);

/// Returns a placeholder, for requests that concern no single object.
inline std::string ObjectOf(const google::protobuf::Message&) { return "-"; }

}  // namespace sma::service
