#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "sma.pb.h"
#include "sma_admin.pb.h"

namespace sma::service {

/// A request as one line for a log: volume ids as UUIDs, keys and CHAP secrets as "redacted",
/// fields that this program does not know left out. Thread-safe.
std::string Redacted(const google::protobuf::Message& message);

/// What a call is about, in a few words and without secrets: handle, volume, or what identifies a
/// new device. Everything that a client wrote is escaped and cut.
std::string ObjectOf(const CreateDeviceRequest& request);
std::string ObjectOf(const DeleteDeviceRequest& request);
std::string ObjectOf(const AttachVolumeRequest& request);
std::string ObjectOf(const DetachVolumeRequest& request);
std::string ObjectOf(const SetQosRequest& request);
std::string ObjectOf(const GetQosCapabilitiesRequest& request);
std::string ObjectOf(const admin::v1::GetDeviceRequest& request);
std::string ObjectOf(const admin::v1::GetVolumeRequest& request);
std::string ObjectOf(const admin::v1::AdoptDeviceRequest& request);

/// For requests about no single object.
inline std::string ObjectOf(const google::protobuf::Message&) { return "-"; }

}  // namespace sma::service
