// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/api/agent_api.h"
#include "agent/service/call_observer.h"
#include "agent/service/tls_files.h"

namespace sma::service {

struct GrpcServerOptions {
  std::string address = "localhost";  // IPv6 without brackets, or "unix:PATH"
  uint16_t port = 8080;               // 0: any free port
  std::optional<TlsFiles> tls;        // nullopt: requests are not encrypted
  /// Maximum number of concurrent calls; further calls wait. Calls for devices of plugins are
  /// counted separately.
  uint32_t max_calls = 128;
  CallObserver observer;  // may be empty
};

/// The gRPC server: the published service, the admin service, the standard health service and
/// reflection.
class GrpcServer {
 public:
  /// Starts listening and accepting calls; at first the health service reports NOT_SERVING. `agent`
  /// and `admin` must outlive the server. Errors: ALREADY_EXISTS if the address is in use;
  /// INVALID_ARGUMENT if the address or a TLS file is invalid. Blocks briefly.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(api::Agent& agent, api::Admin& admin,
                                                           GrpcServerOptions options);

  /// Like Stop() with a timeout of 0.
  ~GrpcServer();

  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  /// Returns the addresses, in the form "127.0.0.1:8080", "[::1]:8080" or "unix:PATH".
  const std::vector<std::string>& addresses() const;
  /// Returns the TCP port, or 0 for a Unix socket.
  uint16_t port() const;

  /// Sets the status of the health service: SERVING if the target answers and the record has been
  /// compared with it. Thread-safe.
  void SetServing(bool serving);

  /// Stops the service: health reports NOT_SERVING, new calls and streams end with UNAVAILABLE,
  /// calls in progress may run for `timeout` before their contexts are cancelled. Blocks until
  /// every call has ended. Idempotent.
  void Stop(std::chrono::milliseconds timeout);

 private:
  class Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sma::service
