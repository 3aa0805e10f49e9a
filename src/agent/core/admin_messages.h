#pragma once

#include <optional>
#include <vector>

#include "agent/core/path_facts.h"
#include "agent/record/record.h"
#include "agent/record/rows.h"
#include "sma_admin.pb.h"

namespace sma::core {

void SetTime(record::Time time, google::protobuf::Timestamp& message);
void SetError(const record::LastError& error, admin::v1::Error& message);

/// A device and a volume as the admin service tells them.
/// What is told of a device besides its row.
struct DeviceFacts {
  DeviceType type = DEVICE_TYPE_INVALID;
  std::optional<QosLimit> limits{};
  bool limits_applied = true;
  bool is_compared = true;                // with the target, since the connect
  std::vector<base::Uuid> unreachable{};  // volumes of it without a path that is up
};
admin::v1::Device DeviceMessage(const record::Device& row, const DeviceFacts& facts,
                                const std::vector<record::Volume>& volumes);

/// What is told of a volume besides its row.
struct VolumeFacts {
  std::optional<QosLimit> limits{};
  bool limits_applied = true;
  bool is_compared = true;
  std::optional<PathFacts::Fact>
      paths{};  // to its storage node; nullopt: not known, or it has none
};
admin::v1::Volume VolumeMessage(const record::Volume& row, const VolumeFacts& facts);

}  // namespace sma::core
