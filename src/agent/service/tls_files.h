#pragma once

#include <cstdint>
#include <string>

namespace sma::service {

/// Paths of PEM files.
struct TlsFiles {
  std::string cert;        // the server's, with the chain behind it
  std::string key;         // its private key
  std::string client_ca;   // empty: clients need no certificate
  uint32_t reload_s = 30;  // how often it is looked whether the files have changed
};

}  // namespace sma::service
