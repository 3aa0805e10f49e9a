// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sma::storage_target::vfio_user {

/// The PCI Express configuration space of a function (PCI Express Base 4.0 §7.5): a type 0 header
/// with the capabilities power management, MSI-X or MSI, and PCI Express. Each bit is either
/// writable or read-only. A value type.
class PciConfig {
 public:
  static constexpr size_t kSizeBytes = 4096;
  static constexpr uint16_t kMaxMsiVectors = 32;

  struct Options {
    uint16_t vendor_id = 0;
    uint16_t device_id = 0;
    uint32_t class_code = 0;  // 24 bits: base class, sub class, interface
    /// Sizes of the 64-bit memory BARs: powers of two, at least 16.
    uint32_t bar0_bytes = 0;
    uint32_t bar4_bytes = 0;
    /// True if the function has MSI instead of MSI-X.
    bool msi = false;
    uint16_t vector_count = 1;  // for MSI a power of two, at most kMaxMsiVectors
    /// Offset of the PBA in BAR 4, which also holds the MSI-X table.
    uint32_t pba_offset_bytes = 0;
  };

  explicit PciConfig(const Options& options);

  /// Reads a range. Returns false if the range exceeds the configuration space.
  bool Read(uint64_t offset, std::span<std::byte> out) const;
  /// Writes the writable bits. Returns false if the range exceeds the configuration space.
  bool Write(uint64_t offset, std::span<const std::byte> data);
  /// Restores the initial values of the writable bits.
  void Reset();

  /// Returns bit 10 of the command register.
  bool intx_disabled() const;
  bool msix_enabled() const;
  /// Returns bit 14 of the MSI-X message control register.
  bool all_vectors_masked() const;
  /// Returns true if a function level reset was requested since the last call (PCI Express device
  /// control, bit 15, which reads as zero).
  bool TakeResetRequest();

 private:
  void PutHeader(const Options& options);
  void PutPowerManagement();
  void PutMsix(const Options& options);
  void PutMsi(const Options& options);
  void PutPciExpress();
  // Sets a register to its initial value; `writable` is a mask of the writable bits.
  void Put(size_t offset, uint64_t value, size_t size_bytes, uint64_t writable = 0);
  uint16_t Get16(size_t offset) const;

  std::array<std::byte, kSizeBytes> bytes_{};
  std::array<std::byte, kSizeBytes> writable_{};
  std::array<std::byte, kSizeBytes> initial_{};
  bool reset_requested_ = false;
};

}  // namespace sma::storage_target::vfio_user
