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

/// Sees when the bdevs of attached volumes go and come, from what the target tells of all bdevs
/// (notify_get_notifications). Used by one thread at a time.
class BdevWatch {
 public:
  /// Both outlive this. `known`, unless null, is told what the target says of each bdev.
  explicit BdevWatch(jsonrpc::Caller& target, Volumes* known = nullptr)
      : target_(target), known_(known) {}

  /// Looks after the attached ones of `rows`, and after no others any more. No remote call.
  void SetVolumes(const std::vector<record::Volume>& rows);

  /// The volumes whose bdev has gone, has come back or was replaced since the last call; for a
  /// volume that is new here, whose bdev is missing though its row tells of no error, or is there
  /// though it does. Blocks for one round trip while nothing happens, and asks for single bdevs
  /// only. After an error the next call tells it. A target that does not know the method: none.
  absl::StatusOr<std::set<base::Uuid>> Poll(const base::Context& context);

 private:
  struct Watched {
    std::string exported;    // the name of the bdev that its device exports, as events have it
    std::string underlying;  // of the volume's bdev; empty: not known
    bool is_missing = false;
    bool is_disturbed = false;  // a bdev of it went, perhaps to come back at once
  };

  absl::Status ReadEvents(const base::Context& context);
  void Note(const std::vector<spdk::BdevEvent>& events);
  absl::Status LookUp(const base::Context& context);
  void LookedUp(const base::Uuid& volume, const std::optional<std::string>& bdev_name);
  void DisturbAll();

  jsonrpc::Caller& target_;
  Volumes* const known_;
  std::map<base::Uuid, Watched> volumes_;
  std::set<base::Uuid> to_look_up_;
  std::set<base::Uuid> changed_;  // not yet told
  // Of the connection to the target.
  uint64_t generation_ = 0;
  bool is_supported_ = true;
  std::optional<uint64_t> next_event_;  // unset: nothing was read yet
};

}  // namespace sma::volume
