// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <string_view>

#include "base/nqn.h"

namespace sma::storage_target::nvme {

using base::IsValidNqn;
using base::kMaxNqnSize;

/// Returns the text of a field that must be NUL-terminated (NQNs of Connect), or an empty view if
/// there is no NUL.
template <size_t N>
std::string_view NulTerminated(const std::array<char, N>& field) {
  std::string_view all(field.data(), field.size());
  size_t end = all.find('\0');
  return end == std::string_view::npos ? std::string_view() : all.substr(0, end);
}

/// Returns the text of a field that is padded with spaces or NULs.
template <size_t N>
std::string_view Unpadded(const std::array<char, N>& field) {
  std::string_view all(field.data(), field.size());
  all = all.substr(0, all.find('\0'));
  size_t end = all.find_last_not_of(' ');
  return end == std::string_view::npos ? std::string_view() : all.substr(0, end + 1);
}

/// Copies `text`, truncated to the field's size, and fills the rest with `padding`: NUL for NQNs,
/// space for other texts.
template <size_t N>
void SetPadded(std::array<char, N>& field, std::string_view text, char padding) {
  field.fill(padding);
  text.substr(0, N).copy(field.data(), N);
}

}  // namespace sma::storage_target::nvme
