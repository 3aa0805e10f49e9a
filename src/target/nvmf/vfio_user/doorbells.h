#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/unique_fd.h"

namespace sma::target::nvmf::vfio_user {

/// The doorbells of a controller (NVMe Base 2.0 §3.1.3, "Submission Queue y Tail Doorbell"): the
/// registers, and for I/O queues the host's shadow of them with its event indices, if it has given
/// any (§5.8, Doorbell Buffer Config). What the host writes is not checked here. One thread's.
class Doorbells {
 public:
  static constexpr uint32_t kRegisterBytes = 4096;  // one page
  static constexpr uint32_t kMaxQueueId = kRegisterBytes / 8 - 1;

  /// `mappable`: the registers are to be in memory with a descriptor; without resources for that
  /// they are not.
  explicit Doorbells(bool mappable);
  ~Doorbells();
  Doorbells(const Doorbells&) = delete;
  Doorbells& operator=(const Doorbells&) = delete;

  /// Of the memory that holds the registers from `offset_bytes` on; -1: they are not mappable.
  int fd() const { return fd_.get(); }

  /// A register, by its place. `index` is 2 * queue id for a tail, one more for a head.
  void Write(uint32_t index, uint32_t value);
  void Clear();

  /// Where the host's pages are in this process; null: there are none, or they are not mapped just
  /// now.
  void SetShadow(uint32_t* shadow, uint32_t* event_indices);
  bool has_shadow() const { return shadow_ != nullptr; }

  uint32_t SqTail(uint16_t queue_id) const { return Read(queue_id * 2u); }
  uint32_t CqHead(uint16_t queue_id) const { return Read(queue_id * 2u + 1); }
  /// The host need not write the register before the shadow passes this value.
  void SetSqEvent(uint16_t queue_id, uint32_t value) { SetEvent(queue_id * 2u, value); }
  void SetCqEvent(uint16_t queue_id, uint32_t value) { SetEvent(queue_id * 2u + 1, value); }
  /// A queue is made: both its places become 0.
  void Reset(uint32_t index);
  /// The shadows of a queue that was made before they were given begin as its register.
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

}  // namespace sma::target::nvmf::vfio_user
