// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/core/path_facts.h"
#include "agent/record/record.h"
#include "agent/record/rows.h"
#include "sma_admin.pb.h"

namespace sma::core {

void SetTime(record::Time time, google::protobuf::Timestamp& message);
void SetError(const record::LastError& error, admin::v1::Error& message);

/// Returns the state according to the row alone. What is reported also depends on the target and,
/// for a volume on a storage node, on its paths.
admin::v1::State StateOf(const record::Device& row);
admin::v1::State StateOf(const record::Volume& row);

/// Facts about a device or volume that are reported in addition to its row.
struct CommonFacts {
  bool target_answers = true;
  std::string target_message{};   // why it does not answer
  record::Time target_since{};    // of target_answers
  bool target_was_lost = false;   // since the agent was started
  bool is_compared = true;        // with the target, since the last connect
  record::Time compared_since{};  // of is_compared
  std::optional<QosLimit> limits{};
  std::optional<record::Time> limits_unset_since{};  // nullopt: they are applied
};

/// What is wrong with a volume of a device.
struct VolumeProblem {
  std::string reason;   // one word
  std::string message;  // names the volume
  record::Time since;
};
/// Returns nullopt if nothing is wrong with the volume, as far as is known.
std::optional<VolumeProblem> ProblemOf(const record::Volume& row,
                                       const std::optional<PathFacts::Fact>& paths);

struct DeviceFacts : CommonFacts {
  DeviceType type = DEVICE_TYPE_INVALID;
  std::optional<VolumeProblem> problem{};  // the oldest one of its volumes
  record::Time well_since{};               // the end of the last such problem; the epoch: unknown
};
admin::v1::Device DeviceMessage(const record::Device& row, const DeviceFacts& facts,
                                const std::vector<record::Volume>& volumes);

struct VolumeFacts : CommonFacts {
  std::optional<PathFacts::Fact> paths{};  // to the storage node; nullopt: unknown or local
  bool is_connecting = false;              // to its storage node, in the background
};
admin::v1::Volume VolumeMessage(const record::Volume& row, const VolumeFacts& facts);

}  // namespace sma::core
