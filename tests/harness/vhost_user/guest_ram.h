#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/unique_fd.h"

namespace sma::harness {

/// A piece of a guest's memory, as the guest and as this process see it.
struct GuestBuffer {
  uint64_t guest_address = 0;
  std::span<std::byte> bytes;
};

/// The memory of a guest that a test plays: a memfd, to be shared by its descriptor.
class GuestRam {
 public:
  /// Aborts the program when the kernel gives none.
  GuestRam(size_t size_bytes, uint64_t guest_address, uint64_t user_address);
  ~GuestRam();
  GuestRam(const GuestRam&) = delete;
  GuestRam& operator=(const GuestRam&) = delete;

  /// Zeroed memory that nobody else gets; aborts the program when there is no more.
  GuestBuffer Allocate(size_t size_bytes, size_t alignment = 16);
  /// What Allocate gave becomes free again, all of it.
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
