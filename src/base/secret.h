// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace sma::base {

/// Secret bytes in their own memory pages, which are locked (never swapped), excluded from core
/// dumps, and overwritten on destruction. Movable. Not thread-safe.
class Secret {
 public:
  /// Returns `size` zero bytes; nullopt if the kernel does not allow more memory to be locked.
  static std::optional<Secret> Make(size_t size);
  static std::optional<Secret> Copy(std::string_view bytes);

  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  ~Secret() { Wipe(); }

  char* data() { return static_cast<char*>(memory_); }
  size_t size() const { return size_; }
  std::string_view bytes() const { return {static_cast<const char*>(memory_), size_}; }

 private:
  Secret(void* memory, size_t size) : memory_(memory), size_(size) {}
  size_t mapped_bytes() const;
  void Wipe();

  void* memory_;
  size_t size_;
};

/// Overwrites and empties a string that has held a secret. The compiler cannot optimize this away.
void WipeString(std::string& text);

/// Returns true if two secrets are equal. The time taken depends only on their lengths.
bool SecretsEqual(std::string_view a, std::string_view b);

/// Disables core dumps of this process, and prevents other processes of the same user from reading
/// its memory. This protects keys in buffers that are not Secrets, such as the text of a request or
/// a cipher's key schedule.
void ForbidCoreDumps();

}  // namespace sma::base
