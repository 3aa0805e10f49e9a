// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/mutex.h"

namespace sma::core {

/// The devices that have to be restored again, and when: incomplete ones, with growing pauses, and
/// those for which Wake() was called. Not thread-safe.
class RetryTable {
 public:
  explicit RetryTable(std::chrono::nanoseconds min_pause) : min_pause_(min_pause) {}

  /// Makes the device due now.
  void Wake(const std::string& handle);

  /// Returns the devices that are due; lowers `next` to the time when the next device is due.
  std::vector<std::string> Due(base::TimePoint now, base::TimePoint& next) const;

  /// Called when the restore of a device begins: the device is due again only after another Wake().
  /// Returns true if it has been incomplete since the last connect, and nullopt if it is not in the
  /// table.
  std::optional<bool> Take(const std::string& handle);
  /// Called when the restore of a device is queued: it is due again only after another Wake().
  void Defer(const std::string& handle);
  void Remove(const std::string& handle) { retries_.erase(handle); }

  /// Records the result of a restore that began no earlier than `begin`. `since_connect` is true if
  /// the device has been incomplete since the last connect; it is then repaired even if drift is
  /// only reported.
  void Note(const std::string& handle, bool is_complete, bool since_connect, base::TimePoint begin);

 private:
  struct Retry {
    base::TimePoint due;
    std::chrono::nanoseconds pause;
    bool since_connect = false;
    base::TimePoint woken{};  // time of the last Wake()
  };

  const std::chrono::nanoseconds min_pause_;
  std::map<std::string, Retry> retries_;
};

}  // namespace sma::core
