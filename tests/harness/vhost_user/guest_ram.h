// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/unique_fd.h"

namespace sma::harness {

/// A part of a guest's memory, with its addresses in the guest and in this process.
struct GuestBuffer {
  uint64_t guest_address = 0;
  std::span<std::byte> bytes;
};

/// The memory of a simulated guest: a memfd, shared by its descriptor.
class GuestRam {
 public:
  /// Aborts the program if the kernel provides no memory.
  GuestRam(size_t size_bytes, uint64_t guest_address, uint64_t user_address);
  ~GuestRam();
  GuestRam(const GuestRam&) = delete;
  GuestRam& operator=(const GuestRam&) = delete;

  /// Returns zeroed memory that is not otherwise used; aborts the program if none is left.
  GuestBuffer Allocate(size_t size_bytes, size_t alignment = 16);
  /// Frees everything that Allocate has returned.
  void FreeAll() { used_bytes_ = 0; }

  std::byte* At(uint64_t guest_address) { return bytes_.data() + (guest_address - guest_address_); }
  uint64_t ToUser(uint64_t guest_address) const {
    return guest_address - guest_address_ + user_address_;
  }

  int fd() const { return fd_.get(); }
  size_t size_bytes() const { return bytes_.size(); }
  uint64_t guest_address() const { return guest_address_; }
  uint64_t user_address() const { return user_address_; }

 private:
  base::UniqueFd fd_;
  std::span<std::byte> bytes_;
  uint64_t guest_address_;
  uint64_t user_address_;
  size_t used_bytes_ = 0;
};

}  // namespace sma::harness
