#pragma once

#include <vector>

#include "agent/record/record.h"
#include "agent/record/rows.h"
#include "sma_admin.pb.h"

namespace sma::core {

void SetTime(record::Time time, google::protobuf::Timestamp& message);
void SetError(const record::LastError& error, admin::v1::Error& message);

/// A device and a volume as the admin service tells them.
admin::v1::Device DeviceMessage(const record::Device& row, DeviceType type,
                                const std::vector<record::Volume>& volumes);
admin::v1::Volume VolumeMessage(const record::Volume& row, const std::optional<QosLimit>& limits);

}  // namespace sma::core
