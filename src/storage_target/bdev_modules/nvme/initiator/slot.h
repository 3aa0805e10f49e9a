// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "storage_target/bdev_modules/nvme/initiator/iov_cursor.h"
#include "storage_target/bdev_modules/nvme/initiator/request.h"
#include "storage_target/nvme/command.h"

namespace sma::storage_target::initiator {

/// A command with a CID, which is its index in the SlotTable.
struct Slot {
  enum class ToSend : uint8_t { kNothing, kCommand, kData };

  Request* request = nullptr;  // nullptr: the CID is free
  IovCursor cursor;            // position in the request's data
  uint32_t moved_bytes = 0;    // data received, or put into PDUs
  uint32_t r2t_end_bytes = 0;  // end of the data that the controller has requested
  uint32_t submit_tick = 0;
  uint16_t ttag = 0;  // of the pending R2T
  uint16_t next = 0;  // link of the sender's queue
  ToSend to_send = ToSend::kNothing;
  bool data_digest_failed = false;
  /// True if the controller has answered while bytes of the request were still being sent. The
  /// request then ends after they have been sent.
  bool answered = false;
  /// True if the queue pair is closed and the controller may still execute the command.
  bool held = false;
  /// True while an outstanding Abort command names the CID, which is not free until that command
  /// has completed.
  bool abort_pending = false;
  nvme::Completion completion;  // valid if answered
  uint64_t batch = 0;           // the sender's last batch that contains a part of it

  nvme::Transfer transfer() const { return TransferOf(request->command); }
  /// Returns true if the controller may have received the command and, if it has data, a part of
  /// them.
  bool may_execute() const {
    return !answered && to_send != ToSend::kCommand &&
           (request->data_bytes == 0 || moved_bytes > 0);
  }
};

/// The commands of one queue pair that have a CID.
class SlotTable {
 public:
  explicit SlotTable(uint16_t size) : slots_(size) {
    free_.reserve(size);
    for (uint16_t cid = size; cid > 0; --cid) free_.push_back(static_cast<uint16_t>(cid - 1));
  }

  uint16_t size() const { return static_cast<uint16_t>(slots_.size()); }
  uint16_t used() const { return static_cast<uint16_t>(slots_.size() - free_.size()); }
  bool full() const { return free_.empty(); }

  Slot& operator[](uint16_t cid) { return slots_[cid]; }
  /// Returns nullptr if no command has this CID, which may come from the remote side.
  Slot* Find(uint16_t cid) {
    return cid < slots_.size() && slots_[cid].request != nullptr ? &slots_[cid] : nullptr;
  }

  /// Requires !full(). Reuses the CID that was freed most recently, because its memory is in the
  /// cache.
  uint16_t Take(Request& request) {
    uint16_t cid = free_.back();
    free_.pop_back();
    Slot& slot = slots_[cid];
    slot = Slot{};
    slot.request = &request;
    slot.cursor = IovCursor(request.iovs, request.iov_offset_bytes);
    return cid;
  }
  void Free(uint16_t cid) {
    slots_[cid].request = nullptr;
    if (!slots_[cid].abort_pending) free_.push_back(cid);
  }
  /// Called when the Abort command for `cid` has completed.
  void EndAbort(uint16_t cid) {
    Slot& slot = slots_[cid];
    if (!std::exchange(slot.abort_pending, false)) return;
    if (slot.request == nullptr) free_.push_back(cid);
  }
  /// Takes O(size()) time.
  std::optional<uint16_t> CidOf(const Request& request) const {
    for (uint16_t cid = 0; cid < size(); ++cid) {
      if (slots_[cid].request == &request) return cid;
    }
    return std::nullopt;
  }

 private:
  std::vector<Slot> slots_;
  std::vector<uint16_t> free_;
};

}  // namespace sma::storage_target::initiator
