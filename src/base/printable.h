// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sma::base {

/// Returns the length, 1 to 4, of the UTF-8 sequence at the beginning of `text` (RFC 3629 §4); 0 if
/// there is none, or if the character could forge log lines or control a terminal: a control
/// character (C0, DEL, C1), a line or paragraph separator, or one that changes the text direction
/// (U+202A to U+202E, U+2066 to U+2069).
size_t PrintableLength(std::string_view text);

/// Appends `text` to `out`, which has append(const char*, const char*). Bytes that
/// PrintableLength() does not accept are escaped as in C: "
/// ", "\r", "\t" or "\x1b".
template <typename Buffer>
void AppendPrintable(std::string_view text, Buffer& out) {
  constexpr char kHex[] = "0123456789abcdef";
  while (!text.empty()) {
    size_t taken = 0;
    while (size_t length = PrintableLength(text.substr(taken))) taken += length;
    out.append(text.data(), text.data() + taken);
    text.remove_prefix(taken);
    if (text.empty()) return;
    const auto byte = static_cast<uint8_t>(text[0]);
    char escape[] = {'\\', 'x', kHex[byte >> 4], kHex[byte & 0xf]};
    size_t length = sizeof(escape);
    if (byte == '\n' || byte == '\r' || byte == '\t') {
      escape[1] = byte == '\n' ? 'n' : byte == '\r' ? 'r' : 't';
      length = 2;
    }
    out.append(escape, escape + length);
    text.remove_prefix(1);
  }
}

}  // namespace sma::base
