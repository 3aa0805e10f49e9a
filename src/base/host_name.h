// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <string_view>

namespace sma::base {

/// Returns true if `text` has the form of a host name: labels of letters, digits, '-' and '_', with
/// a letter in the last label (RFC 1123 §2.1), and at most 253 characters. "127.1", which the
/// system resolves as an address, is not a host name.
bool IsHostName(std::string_view text);

/// Resolves `host` and sets `ip` to the first address that the system returns. Returns 0 on
/// success, otherwise an error code of getaddrinfo(3). Blocks as long as the resolver does, which
/// can be half a minute.
int LookUpHost(const std::string& host, std::string& ip);

}  // namespace sma::base
