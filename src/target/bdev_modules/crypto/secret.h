#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace sma::target::bdev_modules {

/// Bytes that must not leave memory: in a page of their own that is locked (never swapped), left
/// out of core dumps, and overwritten when it goes. Movable.
class Secret {
 public:
  /// nullopt when the kernel lets no more memory be locked.
  static std::optional<Secret> Copy(std::string_view bytes);

  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&&) = delete;
  ~Secret();

  std::string_view bytes() const { return {static_cast<const char*>(memory_), size_}; }

 private:
  Secret(void* memory, size_t size) : memory_(memory), size_(size) {}
  size_t mapped_bytes() const;

  void* memory_;
  size_t size_;
};

/// From now on the kernel makes no core dump of this process, and lets no other process of this
/// user read its memory: keys pass through buffers that are not Secrets on their way in (a
/// request's text) and in use (a cipher's schedule).
void ForbidCoreDumps();

}  // namespace sma::target::bdev_modules
