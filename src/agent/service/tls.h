#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/status/statusor.h"
#include "agent/service/tls_files.h"

namespace sma::service {

/// Credentials that read the files again when they change; new connections then
/// use them. TLS 1.2 and later. INVALID_ARGUMENT where a file cannot be read or is not what it
/// should be. Blocks.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeTlsCredentials(const TlsFiles& files);

}  // namespace sma::service
