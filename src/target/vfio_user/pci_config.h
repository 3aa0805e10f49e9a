#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sma::target::vfio_user {

/// The PCI Express configuration space of a function (PCI Express Base 4.0 §7.5): a type 0 header
/// with the capabilities power management, MSI-X or MSI, and PCI Express. Memory with bits that can
/// be written and bits that cannot. A value.
class PciConfig {
 public:
  static constexpr size_t kSizeBytes = 4096;
  static constexpr uint16_t kMaxMsiVectors = 32;

  struct Options {
    uint16_t vendor_id = 0;
    uint16_t device_id = 0;
    uint32_t class_code = 0;  // 24 bits: base class, sub class, interface
    /// Sizes of the memory BARs, all of 64 bits: powers of two, 16 or more.
    uint32_t bar0_bytes = 0;
    uint32_t bar4_bytes = 0;
    /// The function has MSI in place of MSI-X.
    bool msi = false;
    uint16_t vector_count = 1;  // of MSI a power of 2, kMaxMsiVectors at most
    /// MSI-X has its table and its PBA in BAR 4.
    uint32_t pba_offset_bytes = 0;
  };

  explicit PciConfig(const Options& options);

  /// False: beyond the end.
  bool Read(uint64_t offset, std::span<std::byte> out) const;
  /// Bits that cannot be written stay as they are. False: beyond the end.
  bool Write(uint64_t offset, std::span<const std::byte> data);
  /// The bits that can be written become as they were at first.
  void Reset();

  /// Command register, bit 10.
  bool intx_disabled() const;
  bool msix_enabled() const;
  /// MSI-X message control, bit 14.
  bool all_vectors_masked() const;
  /// Whether a function level reset was asked for since the last call (PCI Express device control,
  /// bit 15, which reads as zero).
  bool TakeResetRequest();

 private:
  void PutHeader(const Options& options);
  void PutPowerManagement();
  void PutMsix(const Options& options);
  void PutMsi(const Options& options);
  void PutPciExpress();
  // `writable`: which of the bits can be written.
  void Put(size_t offset, uint64_t value, size_t size_bytes, uint64_t writable = 0);
  uint16_t Get16(size_t offset) const;

  std::array<std::byte, kSizeBytes> bytes_{};
  std::array<std::byte, kSizeBytes> writable_{};
  std::array<std::byte, kSizeBytes> initial_{};
  bool reset_requested_ = false;
};

}  // namespace sma::target::vfio_user
