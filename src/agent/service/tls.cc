#include "agent/service/tls.h"

#include <fmt/format.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

namespace sma::service {
namespace {

absl::Status OpenSslError(const std::string& path, std::string_view what) {
  const char* reason = ERR_reason_error_string(ERR_get_error());
  ERR_clear_error();
  return absl::InvalidArgumentError(
      fmt::format("{}: {}: {}", path, what, reason != nullptr ? reason : "unknown reason"));
}

/// gRPC would only refuse every connection, later and in silence.
absl::Status Check(const TlsFiles& files) {
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context(SSL_CTX_new(TLS_server_method()),
                                                       SSL_CTX_free);
  if (!context) return absl::InternalError("OpenSSL gives no context");
  if (SSL_CTX_use_certificate_chain_file(context.get(), files.cert.c_str()) != 1) {
    return OpenSslError(files.cert, "no certificate in PEM");
  }
  if (SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    return OpenSslError(files.key, "no private key in PEM for this certificate");
  }
  if (!files.client_ca.empty() &&
      SSL_CTX_load_verify_file(context.get(), files.client_ca.c_str()) != 1) {
    return OpenSslError(files.client_ca, "no certificates in PEM");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeTlsCredentials(const TlsFiles& files) {
  namespace tls = grpc::experimental;
  if (absl::Status status = Check(files); !status.ok()) return status;
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
