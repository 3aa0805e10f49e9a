#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/cord.h"

namespace sma {

// What a DeviceManager::DeleteDevice answers that could not end in its time because somebody who
// uses the device (a virtual machine's guest, say) has not let go of it yet, though asked to, and
// needs not be asked by the caller again. The agent then answers its caller with success. In its
// record device and volumes stay, as on their way out, until a later DeleteDevice, which the agent
// sees to also after a restart, has ended with OK: nobody gets the volumes for another device
// before.

inline constexpr char kRemovalUnderWayUrl[] = "type.sma/removal-under-way";

/// `status`, which is not OK, marked so.
inline absl::Status WithRemovalUnderWay(absl::Status status) {
  status.SetPayload(kRemovalUnderWayUrl, absl::Cord());
  return status;
}

inline bool IsRemovalUnderWay(const absl::Status& status) {
  return status.GetPayload(kRemovalUnderWayUrl).has_value();
}

}  // namespace sma
