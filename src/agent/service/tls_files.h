// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <string>

namespace sma::service {

/// The paths of the PEM files for TLS.
struct TlsFiles {
  std::string cert;        // the server's certificate, followed by its chain
  std::string key;         // private key of the certificate
  std::string client_ca;   // empty: clients need no certificate
  uint32_t reload_s = 30;  // interval at which the files are checked for changes
};

}  // namespace sma::service
