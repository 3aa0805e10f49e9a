// SPDX-License-Identifier: Apache-2.0

#include "cli/tls_reason.h"

#include <fmt/format.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <sys/socket.h>

#include <memory>

#include "base/ip_address.h"
#include "base/unique_fd.h"

namespace sma::cli {
namespace {

template <typename T, void (*kFree)(T*)>
struct Free {
  void operator()(T* object) const { kFree(object); }
};
using Context = std::unique_ptr<SSL_CTX, Free<SSL_CTX, SSL_CTX_free>>;
using Connection = std::unique_ptr<SSL, Free<SSL, SSL_free>>;

// Returns an invalid descriptor if the server does not accept the connection.
base::UniqueFd ConnectTo(const TlsClient& client) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(client.host.c_str(), client.port.c_str(), &hints, &found) != 0) return {};
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    base::UniqueFd fd(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval time{.tv_sec = 1, .tv_usec = 0};  // also limits connect (socket(7))
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
    if (::connect(fd.get(), address->ai_addr, address->ai_addrlen) == 0) return fd;
  }
  return {};
}

// Returns OpenSSL's oldest error in words; empty if there is none.
std::string FirstError() {
  const unsigned long code = ERR_get_error();
  const char* words = code == 0 ? nullptr : ERR_reason_error_string(code);
  return words == nullptr ? "" : words;
}

bool IsIp(const std::string& host) { return base::IpAddress::Parse(host).has_value(); }

bool SetUp(const TlsClient& client, SSL_CTX* context, SSL* ssl) {
  const bool has_ca = !client.ca_file.empty();
  if ((has_ca ? SSL_CTX_load_verify_file(context, client.ca_file.c_str())
              : SSL_CTX_set_default_verify_paths(context)) != 1) {
    return false;
  }
  if (!client.cert_file.empty() &&
      (SSL_use_certificate_chain_file(ssl, client.cert_file.c_str()) != 1 ||
       SSL_use_PrivateKey_file(ssl, client.key_file.c_str(), SSL_FILETYPE_PEM) != 1)) {
    return false;
  }
  SSL_set_verify(ssl, SSL_VERIFY_PEER, nullptr);
  constexpr unsigned char kProtocol[] = "\x02h2";
  SSL_set_alpn_protos(ssl, kProtocol, sizeof(kProtocol) - 1);
  if (IsIp(client.host)) {
    return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), client.host.c_str()) == 1;
  }
  return SSL_set_tlsext_host_name(ssl, client.host.c_str()) == 1 &&
         SSL_set1_host(ssl, client.host.c_str()) == 1;
}

// Returns why the handshake fails; empty if it succeeds.
std::string HandshakeError(const TlsClient& client, SSL_CTX* context, SSL* ssl, int fd) {
  ERR_clear_error();
  if (!SetUp(client, context, ssl) || SSL_set_fd(ssl, fd) != 1) return FirstError();
  if (SSL_connect(ssl) == 1) {
    // With TLS 1.3, a server rejects the client's certificate after the handshake. An HTTP/2 server
    // otherwise sends its settings first (RFC 9113, section 3.4).
    char byte = 0;
    if (SSL_read(ssl, &byte, 1) == 1) return "";
    const std::string error = FirstError();
    return error.empty() ? "" : "the agent rejects this client: " + error;
  }
  const long verified = SSL_get_verify_result(ssl);
  if (verified != X509_V_OK) {
    return fmt::format("the agent's certificate is not valid: {}",
                       X509_verify_cert_error_string(verified));
  }
  const unsigned long code = ERR_peek_error();
  const int reason = ERR_GET_REASON(code);
  if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
      (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST)) {
    return "the agent does not use TLS";
  }
  return FirstError();
}

}  // namespace

std::string WhyTlsFails(const TlsClient& client) {
  const base::UniqueFd fd = ConnectTo(client);
  if (!fd.valid()) return {};
  ::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes to connections that the server may have closed
  const Context context(SSL_CTX_new(TLS_client_method()));
  const Connection ssl(context ? SSL_new(context.get()) : nullptr);
  if (!ssl) return {};
  if (client.uses_tls) return HandshakeError(client, context.get(), ssl.get(), fd.get());
  // A server that answers a TLS greeting uses TLS, whatever its certificate is.
  if (SSL_set_fd(ssl.get(), fd.get()) != 1 || SSL_connect(ssl.get()) != 1) return {};
  return "the agent uses TLS: give --tls or --ca";
}

}  // namespace sma::cli
