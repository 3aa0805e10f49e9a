// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/status/statusor.h"
#include "agent/service/tls_files.h"

namespace sma::service {

/// Returns INVALID_ARGUMENT, with the file and the reason, if a file cannot be read or has invalid
/// contents: gRPC itself would report no error and later refuse every connection.
absl::Status CheckTlsFiles(const TlsFiles& files);

/// Returns credentials that reload the files when they change; new connections then use the new
/// files. Accepts TLS 1.2 or later. Returns INVALID_ARGUMENT if a file cannot be read or has
/// invalid contents. Blocks.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeTlsCredentials(const TlsFiles& files);

}  // namespace sma::service
