#pragma once

#include <array>
#include <string_view>

namespace sma::target::nvme {

/// Bytes of a qualified name without the NUL that ends it on the wire (NVMe Base 2.0 §4.5).
inline constexpr size_t kMaxNqnSize = 223;

/// True for an NVMe Qualified Name: UTF-8 without control characters, 11 to 223 bytes, either
/// "nqn.yyyy-mm.<reverse domain>[:<text>]" with a month of 01 to 12, or
/// "nqn.2014-08.org.nvmexpress:uuid:<a UUID>" (NVMe Base 2.0 §4.5).
bool IsValidNqn(std::string_view nqn);

/// The text of a field that must end in NUL (NQNs of Connect); an empty view when there is no NUL.
template <size_t N>
std::string_view NulTerminated(const std::array<char, N>& field) {
  std::string_view all(field.data(), field.size());
  size_t end = all.find('\0');
  return end == std::string_view::npos ? std::string_view() : all.substr(0, end);
}

/// The text of a field that is padded with spaces or NULs.
template <size_t N>
std::string_view Unpadded(const std::array<char, N>& field) {
  std::string_view all(field.data(), field.size());
  all = all.substr(0, all.find('\0'));
  size_t end = all.find_last_not_of(' ');
  return end == std::string_view::npos ? std::string_view() : all.substr(0, end + 1);
}

/// Copies `text`, cut to the field's size, and fills the rest with `padding`: NUL for NQNs, space
/// for the other texts.
template <size_t N>
void SetPadded(std::array<char, N>& field, std::string_view text, char padding) {
  field.fill(padding);
  text.substr(0, N).copy(field.data(), N);
}

}  // namespace sma::target::nvme
