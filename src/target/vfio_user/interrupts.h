#pragma once

#include <linux/vfio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/unique_fd.h"
#include "target/vfio_user/protocol.h"

namespace sma::target::vfio_user {

/// The interrupts of a PCI function: one INTx line and the vectors of MSI-X or MSI, which become
/// writes to the client's eventfds (vfio-user "VFIO_USER_DEVICE_SET_IRQS"). One thread's; Raise and
/// SetIntx neither allocate nor block.
///
/// The client owns the MSI-X table: it masks vectors by messages. An interrupt that is raised while
/// its vector is masked comes when it is unmasked.
class Interrupts {
 public:
  static constexpr uint32_t kTypeCount = 5;  // VFIO_PCI_NUM_IRQS

  enum class VectorType : uint32_t {
    kMsi = VFIO_PCI_MSI_IRQ_INDEX,
    kMsix = VFIO_PCI_MSIX_IRQ_INDEX,
  };

  explicit Interrupts(uint32_t vector_count, VectorType type = VectorType::kMsix)
      : type_(type), vectors_(vector_count) {}

  /// How many interrupts a type has, by its index in <linux/vfio.h>, and its VFIO_IRQ_INFO flags.
  IrqInfo Describe(uint32_t index) const;

  /// Does what a message says; takes the descriptors that it uses. 0, or EINVAL; nothing is changed
  /// then.
  int Set(const IrqSet& set, std::span<const std::byte> data, std::span<base::UniqueFd> fds);
  /// The client is gone: no eventfds, nothing pending, nothing masked.
  void Clear();

  /// Whether the client has given an eventfd for any vector: then INTx is not used.
  bool vectors_in_use() const { return vectors_in_use_; }
  /// One more interrupt of a vector; nothing without an eventfd.
  void Raise(uint32_t vector);
  /// The whole function's MSI-X mask bit.
  void MaskAll(bool masked);
  /// The level of the INTx line, and whether the command register disables it. A level that stays
  /// comes again after the client has unmasked it.
  void SetIntx(bool level);
  void DisableIntx(bool disabled);
  /// The pending bit of a vector, for the PBA.
  bool pending(uint32_t vector) const { return vectors_[vector].pending; }
  uint32_t vector_count() const { return static_cast<uint32_t>(vectors_.size()); }

 private:
  struct Vector {
    base::UniqueFd eventfd;
    bool masked = false;
    bool pending = false;
  };

  Vector* At(uint32_t index, uint32_t sub_index);
  int Assign(const IrqSet& set, std::span<base::UniqueFd> fds);
  void Act(uint32_t index, uint32_t sub_index, uint32_t action);
  void Deliver(Vector& vector);
  void UpdateIntx();

  const VectorType type_;
  std::vector<Vector> vectors_;
  Vector intx_;
  bool vectors_in_use_ = false;
  bool all_masked_ = false;
  bool intx_level_ = false;
  bool intx_disabled_ = false;
};

}  // namespace sma::target::vfio_user
