// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

// Access to fields in memory that another party reads and writes at the same time. Virtio 1.2
// fields are little-endian, as on every platform for which this is built.

namespace sma::storage_target::virtio {

static_assert(std::endian::native == std::endian::little);

template <typename T>
T LoadRelaxed(const T& field) {
  return std::atomic_ref<T>(const_cast<T&>(field)).load(std::memory_order_relaxed);
}

/// Reads a field. Everything that the other party wrote before it stored this value is visible
/// afterwards.
template <typename T>
T LoadAcquire(const T& field) {
  return std::atomic_ref<T>(const_cast<T&>(field)).load(std::memory_order_acquire);
}

template <typename T>
void StoreRelaxed(T& field, T value) {
  std::atomic_ref<T>(field).store(value, std::memory_order_relaxed);
}

/// Writes a field. A reader that sees this value also sees everything written before it.
template <typename T>
void StoreRelease(T& field, T value) {
  std::atomic_ref<T>(field).store(value, std::memory_order_release);
}

/// Copies the value at `address`, of any alignment. The compiler does not read the memory again
/// afterwards, so the value that was checked is the one that is used.
template <typename T>
T Fetch(const void* address) {
  static_assert(std::is_trivially_copyable_v<T>);
  T copy;
  std::memcpy(&copy, address, sizeof copy);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return copy;
}

}  // namespace sma::storage_target::virtio
