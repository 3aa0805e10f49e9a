// SPDX-License-Identifier: Apache-2.0

#include "base/nqn.h"

#include <algorithm>

#include "base/uuid.h"

namespace sma::base {
namespace {

constexpr std::string_view kUuidPrefix = "nqn.2014-08.org.nvmexpress:uuid:";

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Returns true if `nqn` begins with "nqn.yyyy-mm."
bool HasDatePrefix(std::string_view nqn) {
  if (nqn.size() < 12 || nqn.substr(0, 4) != "nqn." || nqn[8] != '-' || nqn[11] != '.')
    return false;
  for (size_t at : {4, 5, 6, 7, 9, 10}) {
    if (!IsDigit(nqn[at])) return false;
  }
  int month = (nqn[9] - '0') * 10 + (nqn[10] - '0');
  return month >= 1 && month <= 12;
}

// Returns true for labels of 1 to 63 letters, digits and hyphens that neither begin nor end with a
// hyphen (RFC 1035 §2.3.1, with leading digits as RFC 1123 §2.1 allows them).
bool IsDomain(std::string_view domain) {
  while (true) {
    size_t dot = domain.find('.');
    std::string_view label = domain.substr(0, dot);
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-')
      return false;
    if (!std::all_of(label.begin(), label.end(),
                     [](char c) { return IsDigit(c) || IsLetter(c) || c == '-'; })) {
      return false;
    }
    if (dot == std::string_view::npos) return true;
    domain.remove_prefix(dot + 1);
  }
}

// Returns the number of bytes of the UTF-8 sequence at the beginning of `text` (RFC 3629 §4); 0 if
// there is none.
size_t Utf8Sequence(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char first = byte(0);
  if (first < 0x80) return 1;
  size_t size = first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : 4;
  if (first < 0xc2 || first > 0xf4 || text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  bool too_long = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  bool surrogate = first == 0xed && byte(1) >= 0xa0;
  bool too_large = first == 0xf4 && byte(1) >= 0x90;
  return too_long || surrogate || too_large ? 0 : size;
}

bool IsPrintableUtf8(std::string_view text) {
  while (!text.empty()) {
    auto first = static_cast<unsigned char>(text[0]);
    size_t size = Utf8Sequence(text);
    if (size == 0 || first < 0x20 || first == 0x7f) return false;
    text.remove_prefix(size);
  }
  return true;
}

}  // namespace

bool IsValidNqn(std::string_view nqn) {
  if (nqn.size() > kMaxNqnSize || !HasDatePrefix(nqn) || !IsPrintableUtf8(nqn)) return false;
  if (nqn.substr(0, kUuidPrefix.size()) == kUuidPrefix) {
    return Uuid::Parse(nqn.substr(kUuidPrefix.size())).has_value();
  }
  std::string_view name = nqn.substr(12);
  size_t colon = name.find(':');
  if (!IsDomain(name.substr(0, colon))) return false;
  return colon == std::string_view::npos || colon + 1 < name.size();
}

}  // namespace sma::base
