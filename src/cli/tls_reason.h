// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

namespace sma::cli {

/// How a client connects with TLS; the files are in PEM format, empty if they are not given.
struct TlsClient {
  std::string host;  // a name or an IP address without brackets
  std::string port;
  bool uses_tls = false;
  std::string ca_file;
  std::string cert_file;
  std::string key_file;
};

/// Connects to a server that accepts connections but with which gRPC has failed to talk, and
/// returns why, for an error message: what OpenSSL says about the certificate, or that only one
/// side uses TLS. gRPC's own message names functions of its implementation. Returns an empty string
/// if no reason is found. Blocks for a few seconds at most.
std::string WhyTlsFails(const TlsClient& client);

}  // namespace sma::cli
