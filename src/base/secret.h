#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace sma::base {

/// Bytes that must not leave memory: in pages of their own that are locked (never swapped), left
/// out of core dumps, and overwritten when they go. Movable. Not synchronised.
class Secret {
 public:
  /// `size` zero bytes; nullopt when the kernel lets no more memory be locked.
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

/// Overwrites the characters of a string that a secret has passed through, so that the compiler
/// does not leave it out; the string is empty afterwards.
void WipeString(std::string& text);

/// Whether two secrets are equal; how long it takes tells nothing but their lengths.
bool SecretsEqual(std::string_view a, std::string_view b);

/// From now on the kernel makes no core dump of this process, and lets no other process of this
/// user read its memory: keys pass through buffers that are not Secrets on their way in (a
/// request's text) and in use (a cipher's schedule).
void ForbidCoreDumps();

}  // namespace sma::base
