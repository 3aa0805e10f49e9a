#pragma once

#include <string>
#include <string_view>

namespace sma::base {

/// Whether `text` may be the name of a host: labels of letters, digits, '-' and '_', with a letter
/// in the last (RFC 1123 §2.1), 253 characters at most. So "127.1", which the system takes for an
/// address, is none.
bool IsHostName(std::string_view text);

/// Puts the IP address of `host` that the system names first into `ip`. Returns 0, or an error of
/// getaddrinfo(3). Blocks as long as the system likes, half a minute say.
int LookUpHost(const std::string& host, std::string& ip);

}  // namespace sma::base
