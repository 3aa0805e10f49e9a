// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/record/rows.h"
#include "agent/spdk/notify.h"
#include "agent/volume/volumes.h"
#include "base/context.h"
#include "base/uuid.h"
#include "jsonrpc/caller.h"

namespace sma::volume {

/// Detects when bdevs of attached volumes disappear and reappear, from the target's notifications
/// about bdevs (notify_get_notifications). Not thread-safe.
class BdevWatch {
 public:
  /// Both must outlive this object. `known`, unless null, receives the events and each
  /// description of a bdev.
  explicit BdevWatch(jsonrpc::Caller& target, Volumes* known = nullptr)
      : target_(target), known_(known) {}

  /// Watches the volumes of `rows` that are attached, and no others. Makes no remote call.
  void SetVolumes(const std::vector<record::Volume>& rows);

  /// Returns the volumes whose bdev has disappeared, reappeared or been replaced since the last
  /// call. A volume that was added since then is returned if its bdev is missing although its row
  /// has no error, or exists although the row has one. Blocks for one round trip if nothing has
  /// happened; queries only the bdevs concerned, one by one. After an error, the next call returns
  /// the volumes that this one would have returned. Returns an empty set if the target does not
  /// support notifications.
  absl::StatusOr<std::set<base::Uuid>> Poll(const base::Context& context);

 private:
  struct Watched {
    std::string exported;    // the bdev that the device exports, named as in events
    std::string layer;       // the volume's crypto bdev; empty: it has none
    std::string underlying;  // the volume's own bdev; empty: not known
    bool is_missing = false;
    bool was_unregistered = false;  // one of its bdevs was unregistered, perhaps only for a moment
  };

  absl::Status ReadEvents(const base::Context& context);
  void Note(const std::vector<spdk::BdevEvent>& events);
  absl::Status QueryBdevs(const base::Context& context);
  void NoteAnswer(const base::Uuid& volume, const std::optional<std::string>& bdev_name,
                  bool has_layer);
  void SuspectAll();

  jsonrpc::Caller& target_;
  Volumes* const known_;
  std::map<base::Uuid, Watched> volumes_;
  std::set<base::Uuid> to_query_;
  std::set<base::Uuid> changed_;  // not yet returned by Poll
  // The generation of the connection to the target.
  uint64_t generation_ = 0;
  bool is_supported_ = true;
  std::optional<uint64_t> next_event_;  // unset: no events have been read
};

}  // namespace sma::volume
