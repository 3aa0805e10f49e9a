#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

// Access to fields in memory that another party reads and writes at the same time. Virtio 1.2
// fields are little-endian, and so is every machine that this is built for.

namespace sma::target::virtio {

static_assert(std::endian::native == std::endian::little);

template <typename T>
T LoadRelaxed(const T& field) {
  return std::atomic_ref<T>(const_cast<T&>(field)).load(std::memory_order_relaxed);
}

/// What the other party wrote before it stored this value is seen after it.
template <typename T>
T LoadAcquire(const T& field) {
  return std::atomic_ref<T>(const_cast<T&>(field)).load(std::memory_order_acquire);
}

template <typename T>
void StoreRelaxed(T& field, T value) {
  std::atomic_ref<T>(field).store(value, std::memory_order_relaxed);
}

/// Who sees this value sees what was written before it.
template <typename T>
void StoreRelease(T& field, T value) {
  std::atomic_ref<T>(field).store(value, std::memory_order_release);
}

/// A copy of what stands at `address`, of any alignment. The compiler does not go back to the
/// memory afterwards, so what was checked is what is used.
template <typename T>
T Fetch(const void* address) {
  static_assert(std::is_trivially_copyable_v<T>);
  T copy;
  std::memcpy(&copy, address, sizeof copy);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return copy;
}

}  // namespace sma::target::virtio
