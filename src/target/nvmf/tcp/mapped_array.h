#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <type_traits>

#include "target/nvmf/tcp/mapped_memory.h"

namespace sma::target::nvmf::tcp {

/// An array in pages of its own, which go back to the kernel with it; those of the heap are kept
/// while anything beside them is in use. Movable, not copyable.
template <typename T>
class MappedArray {
 public:
  static_assert(std::is_trivially_destructible_v<T>);

  MappedArray() = default;
  /// Ends the program when the kernel gives no memory, as the heap does.
  explicit MappedArray(size_t count) : memory_(count * sizeof(T)) {
    if (!memory_.valid()) std::abort();
    std::uninitialized_default_construct_n(data(), count);
  }

  T& operator[](size_t index) { return data()[index]; }

 private:
  T* data() { return reinterpret_cast<T*>(memory_.data()); }

  MappedMemory memory_;
};

}  // namespace sma::target::nvmf::tcp
