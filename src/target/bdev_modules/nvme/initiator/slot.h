#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "target/bdev_modules/nvme/initiator/iov_cursor.h"
#include "target/bdev_modules/nvme/initiator/request.h"
#include "target/nvme/command.h"

namespace sma::target::initiator {

/// A command that has a CID, which is its index in the SlotTable.
struct Slot {
  enum class ToSend : uint8_t { kNothing, kCommand, kData };

  Request* request = nullptr;  // nullptr: the CID is free
  IovCursor cursor;            // over the request's data
  uint32_t moved_bytes = 0;    // of the data: received, or put into PDUs
  uint32_t r2t_end_bytes = 0;  // how far the controller has asked for data
  uint32_t submit_tick = 0;
  uint16_t ttag = 0;  // of the open R2T
  uint16_t next = 0;  // the sender's queue
  ToSend to_send = ToSend::kNothing;
  bool data_digest_failed = false;
  /// The controller has answered while bytes of the request were still being sent: it ends when
  /// they are gone.
  bool answered = false;
  /// An Abort command names the CID: it stays taken until that has been answered.
  bool abort_pending = false;
  nvme::Completion completion;  // when answered
  uint64_t batch = 0;           // the sender's last batch that has a part of it

  nvme::Transfer transfer() const { return TransferOf(request->command); }
};

/// The commands under way of one queue pair.
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
  /// nullptr when no command has this CID, which may come from the remote side.
  Slot* Find(uint16_t cid) {
    return cid < slots_.size() && slots_[cid].request != nullptr ? &slots_[cid] : nullptr;
  }

  /// Not when full(). The last one freed comes first: its memory is warm.
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
  /// The Abort command for `cid` has been answered.
  void EndAbort(uint16_t cid) {
    Slot& slot = slots_[cid];
    if (!std::exchange(slot.abort_pending, false)) return;
    if (slot.request == nullptr) free_.push_back(cid);
  }
  /// O(size()).
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

}  // namespace sma::target::initiator
