// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <linux/vfio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/unique_fd.h"
#include "storage_target/vfio_user/protocol.h"
#include "storage_target/virtio/event_fd.h"
#include "storage_target/virtio/received_fd.h"

namespace sma::storage_target::vfio_user {

/// The interrupts of a PCI function: one INTx line and the MSI-X or MSI vectors. An interrupt is a
/// write to an eventfd of the client (vfio-user "VFIO_USER_DEVICE_SET_IRQS"). Not thread-safe;
/// Raise and SetIntx neither allocate nor block.
///
/// The client owns the MSI-X table and masks vectors with messages. An interrupt raised while its
/// vector is masked is delivered when the vector is unmasked.
class Interrupts {
 public:
  static constexpr uint32_t kTypeCount = 5;  // VFIO_PCI_NUM_IRQS

  enum class VectorType : uint32_t {
    kMsi = VFIO_PCI_MSI_IRQ_INDEX,
    kMsix = VFIO_PCI_MSIX_IRQ_INDEX,
  };

  explicit Interrupts(uint32_t vector_count, VectorType type = VectorType::kMsix)
      : type_(type), vectors_(vector_count) {}

  /// Returns the number of interrupts of a type, given by its index in <linux/vfio.h>, and its
  /// VFIO_IRQ_INFO flags.
  IrqInfo Describe(uint32_t index) const;

  /// Executes a SET_IRQS message; takes ownership of the descriptors that it uses. Returns 0, or an
  /// error without changing anything: EINVAL, or ENOSPC if too few descriptors would be left for
  /// other guests (virtio::MayKeepDescriptor).
  int Set(const IrqSet& set, std::span<const std::byte> data, std::span<virtio::ReceivedFd> fds);
  /// Must be called when the client has disconnected. Removes eventfds, pending interrupts and
  /// masks.
  void Clear();

  /// Returns true if the client has set an eventfd for any vector, in which case INTx is not used.
  bool vectors_in_use() const { return vectors_in_use_; }
  /// Raises an interrupt of a vector; does nothing if the vector has no eventfd.
  void Raise(uint32_t vector);
  /// Sets the MSI-X function mask bit.
  void MaskAll(bool masked);
  /// These functions set the level of the INTx line, and whether the command register disables
  /// INTx. If the level stays active, another interrupt is raised after the client has unmasked the
  /// line.
  void SetIntx(bool level);
  void DisableIntx(bool disabled);
  /// Returns true if an eventfd of the client has blocked a write since AllowSignals: it receives
  /// no more interrupts.
  bool blocked() const { return notifier_.blocked(); }
  void AllowSignals() { notifier_.Reset(); }
  /// Returns the pending bit of a vector, for the PBA.
  bool pending(uint32_t vector) const { return vectors_[vector].pending; }
  uint32_t vector_count() const { return static_cast<uint32_t>(vectors_.size()); }

 private:
  struct Vector {
    base::UniqueFd eventfd;
    bool masked = false;
    bool pending = false;
  };

  Vector* At(uint32_t index, uint32_t sub_index);
  int Assign(const IrqSet& set, std::span<virtio::ReceivedFd> fds);
  bool MayKeep(const IrqSet& set, std::span<const virtio::ReceivedFd> fds);
  void ApplyAction(uint32_t index, uint32_t sub_index, uint32_t action);
  void Deliver(Vector& vector);
  void Signal(base::UniqueFd& eventfd);
  void UpdateIntx();

  const VectorType type_;
  virtio::PeerNotifier notifier_;
  std::vector<Vector> vectors_;
  Vector intx_;
  bool vectors_in_use_ = false;
  bool all_masked_ = false;
  bool intx_level_ = false;
  bool intx_disabled_ = false;
};

}  // namespace sma::storage_target::vfio_user
