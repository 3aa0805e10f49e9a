// SPDX-License-Identifier: Apache-2.0

#include "agent/service/tls.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"

namespace sma::service {
namespace {

absl::Status OpenSslError(const std::string& path, std::string_view what) {
  const char* reason = ERR_reason_error_string(ERR_get_error());
  ERR_clear_error();
  return absl::InvalidArgumentError(
      fmt::format("{}: {}: {}", path, what, reason != nullptr ? reason : "unknown reason"));
}

absl::Status CheckReadable(const TlsFiles& files) {
  for (const std::string* path : {&files.cert, &files.key, &files.client_ca}) {
    if (path->empty()) continue;
    const base::UniqueFd file(::open(path->c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return absl::InvalidArgumentError(fmt::format("{}: {}", *path, strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTlsFiles(const TlsFiles& files) {
  if (absl::Status status = CheckReadable(files); !status.ok()) return status;
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context(SSL_CTX_new(TLS_server_method()),
                                                       SSL_CTX_free);
  if (!context) return absl::InternalError("OpenSSL cannot create a context");
  if (SSL_CTX_use_certificate_chain_file(context.get(), files.cert.c_str()) != 1) {
    return OpenSslError(files.cert, "not a PEM certificate");
  }
  if (SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    return OpenSslError(files.key, "not the PEM private key of this certificate");
  }
  if (!files.client_ca.empty() &&
      SSL_CTX_load_verify_file(context.get(), files.client_ca.c_str()) != 1) {
    return OpenSslError(files.client_ca, "not PEM certificates");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeTlsCredentials(const TlsFiles& files) {
  namespace tls = grpc::experimental;
  if (absl::Status status = CheckTlsFiles(files); !status.ok()) return status;
  auto provider = std::make_shared<tls::FileWatcherCertificateProvider>(
      files.key, files.cert, files.client_ca, files.reload_s);
  tls::TlsServerCredentialsOptions options(provider);
  options.watch_identity_key_cert_pairs();
  if (!files.client_ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return tls::TlsServerCredentials(options);
}

}  // namespace sma::service
