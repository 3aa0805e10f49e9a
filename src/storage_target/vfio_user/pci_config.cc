// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vfio_user/pci_config.h"

#include <linux/pci_regs.h>

#include <bit>
#include <cstring>
#include <utility>

namespace sma::storage_target::vfio_user {
namespace {

// Offsets of the capabilities, which form a linked list.
constexpr size_t kPowerManagement = 0x40;
constexpr size_t kMsix = 0x50;
constexpr size_t kMsi = kMsix;  // a function has one or the other
constexpr size_t kPciExpress = 0x60;

constexpr uint32_t kMsixBar = 4;

}  // namespace

PciConfig::PciConfig(const Options& options) {
  PutHeader(options);
  PutPowerManagement();
  if (options.msi) {
    PutMsi(options);
  } else {
    PutMsix(options);
  }
  PutPciExpress();
  initial_ = bytes_;
}

void PciConfig::PutHeader(const Options& options) {
  Put(PCI_VENDOR_ID, options.vendor_id, 2);
  Put(PCI_DEVICE_ID, options.device_id, 2);
  Put(PCI_COMMAND, 0, 2,
      PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
          PCI_COMMAND_INTX_DISABLE);
  Put(PCI_STATUS, PCI_STATUS_CAP_LIST, 2);
  Put(PCI_CLASS_REVISION, options.class_code << 8, 4);
  Put(PCI_CACHE_LINE_SIZE, 0, 1, 0xff);
  constexpr uint64_t kMemory64 = PCI_BASE_ADDRESS_MEM_TYPE_64;
  Put(PCI_BASE_ADDRESS_0, kMemory64, 8, ~uint64_t{options.bar0_bytes - 1});
  Put(PCI_BASE_ADDRESS_4, kMemory64, 8, ~uint64_t{options.bar4_bytes - 1});
  Put(PCI_SUBSYSTEM_VENDOR_ID, options.vendor_id, 2);
  Put(PCI_SUBSYSTEM_ID, options.device_id, 2);
  Put(PCI_CAPABILITY_LIST, kPowerManagement, 1);
  Put(PCI_INTERRUPT_LINE, 0, 1, 0xff);
  Put(PCI_INTERRUPT_PIN, 1, 1);  // INTA
}

void PciConfig::PutPowerManagement() {
  Put(kPowerManagement, PCI_CAP_ID_PM | kMsix << 8, 2);
  Put(kPowerManagement + PCI_PM_PMC, 3, 2);  // version 3: no states but D0 and D3hot
  Put(kPowerManagement + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET, 2, PCI_PM_CTRL_STATE_MASK);
}

void PciConfig::PutMsix(const Options& options) {
  Put(kMsix, PCI_CAP_ID_MSIX | kPciExpress << 8, 2);
  Put(kMsix + PCI_MSIX_FLAGS, options.vector_count - 1u, 2,
      PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
  Put(kMsix + PCI_MSIX_TABLE, kMsixBar, 4);
  Put(kMsix + PCI_MSIX_PBA, options.pba_offset_bytes | kMsixBar, 4);
}

// PCI Local Bus 3.0 §6.8.1, with a 64-bit address and without per-vector masking.
void PciConfig::PutMsi(const Options& options) {
  const auto count_log2 = static_cast<uint32_t>(std::countr_zero(options.vector_count));
  Put(kMsi, PCI_CAP_ID_MSI | kPciExpress << 8, 2);
  Put(kMsi + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT | count_log2 << 1, 2,
      PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
  Put(kMsi + PCI_MSI_ADDRESS_LO, 0, 8, ~uint64_t{3});
  Put(kMsi + PCI_MSI_DATA_64, 0, 2, 0xffff);
}

void PciConfig::PutPciExpress() {
  constexpr uint32_t kVersion2 = 2;
  constexpr uint64_t kLink = PCI_EXP_LNKCAP_SLS_2_5GB | 1u << 4;  // one lane
  Put(kPciExpress, PCI_CAP_ID_EXP, 2);
  Put(kPciExpress + PCI_EXP_FLAGS, kVersion2 | PCI_EXP_TYPE_ENDPOINT << 4, 2);
  Put(kPciExpress + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR, 4);
  Put(kPciExpress + PCI_EXP_DEVCTL, 0, 2, 0x7fff);
  Put(kPciExpress + PCI_EXP_LNKCAP, kLink, 4);
  Put(kPciExpress + PCI_EXP_LNKCTL, 0, 2, PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_CCC);
  Put(kPciExpress + PCI_EXP_LNKSTA, kLink, 2);
}

void PciConfig::Put(size_t offset, uint64_t value, size_t size_bytes, uint64_t writable) {
  std::memcpy(&bytes_[offset], &value, size_bytes);
  std::memcpy(&writable_[offset], &writable, size_bytes);
}

uint16_t PciConfig::Get16(size_t offset) const {
  uint16_t value;
  std::memcpy(&value, &bytes_[offset], sizeof value);
  return value;
}

bool PciConfig::Read(uint64_t offset, std::span<std::byte> out) const {
  if (offset > kSizeBytes || out.size() > kSizeBytes - offset) return false;
  std::memcpy(out.data(), bytes_.data() + offset, out.size());
  return true;
}

bool PciConfig::Write(uint64_t offset, std::span<const std::byte> data) {
  if (offset > kSizeBytes || data.size() > kSizeBytes - offset) return false;
  constexpr size_t kResetByte = kPciExpress + PCI_EXP_DEVCTL + 1;
  constexpr auto kResetBit = std::byte{PCI_EXP_DEVCTL_BCR_FLR >> 8};
  for (size_t i = 0; i < data.size(); ++i) {
    const size_t at = offset + i;
    bytes_[at] = (bytes_[at] & ~writable_[at]) | (data[i] & writable_[at]);
    if (at == kResetByte && (data[i] & kResetBit) != std::byte{0}) reset_requested_ = true;
  }
  return true;
}

void PciConfig::Reset() {
  bytes_ = initial_;
  reset_requested_ = false;
}

bool PciConfig::intx_disabled() const {
  return (Get16(PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE) != 0;
}

bool PciConfig::msix_enabled() const {
  return (Get16(kMsix + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_ENABLE) != 0;
}

bool PciConfig::all_vectors_masked() const {
  return (Get16(kMsix + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_MASKALL) != 0;
}

bool PciConfig::TakeResetRequest() { return std::exchange(reset_requested_, false); }

}  // namespace sma::storage_target::vfio_user
