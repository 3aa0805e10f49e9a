// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/unique_fd.h"

namespace sma::storage_target::nvmf::vfio_user {

/// The doorbells of a controller (NVMe Base 2.0 §3.1.3, "Submission Queue y Tail Doorbell"): the
/// registers, and for I/O queues the host's shadow doorbells and event indices, if configured
/// (§5.8, Doorbell Buffer Config). Values that the host writes are not checked here. Not
/// thread-safe.
class Doorbells {
 public:
  static constexpr uint32_t kRegisterBytes = 4096;  // one page
  static constexpr uint32_t kMaxQueueId = kRegisterBytes / 8 - 1;

  /// If `mappable` is set, the registers are in memory that clients can map, unless the resources
  /// for that are missing.
  explicit Doorbells(bool mappable);
  ~Doorbells();
  Doorbells(const Doorbells&) = delete;
  Doorbells& operator=(const Doorbells&) = delete;

  /// Returns the file that contains the registers at `offset_bytes`; -1 if they are not mappable.
  int fd() const { return fd_.get(); }

  /// Writes a register. `index` is 2 * queue ID for a tail doorbell, plus 1 for a head doorbell.
  void Write(uint32_t index, uint32_t value);
  void Clear();

  /// Sets the addresses of the host's pages in this process; null if they are not configured or not
  /// mapped at present.
  void SetShadow(uint32_t* shadow, uint32_t* event_indices);
  bool has_shadow() const { return shadow_ != nullptr; }

  uint32_t SqTail(uint16_t queue_id) const { return Read(queue_id * 2u); }
  uint32_t CqHead(uint16_t queue_id) const { return Read(queue_id * 2u + 1); }
  /// Set an event index: the host needs to write the register only when its shadow passes this
  /// value.
  void SetSqEvent(uint16_t queue_id, uint32_t value) { SetEvent(queue_id * 2u, value); }
  void SetCqEvent(uint16_t queue_id, uint32_t value) { SetEvent(queue_id * 2u + 1, value); }
  /// Sets register and shadow of a new queue to 0.
  void Reset(uint32_t index);
  /// Initialises the shadow doorbells of a queue from its registers, if the queue was created
  /// before they were configured.
  void CopyToShadow(uint32_t index);

 private:
  bool UsesShadow(uint32_t index) const { return shadow_ != nullptr && index >= 2; }
  uint32_t Read(uint32_t index) const;
  void SetEvent(uint32_t index, uint32_t value);

  base::UniqueFd fd_;
  uint32_t* registers_ = nullptr;  // kRegisterBytes
  bool mapped_ = false;
  uint32_t* shadow_ = nullptr;
  uint32_t* event_indices_ = nullptr;
};

}  // namespace sma::storage_target::nvmf::vfio_user
