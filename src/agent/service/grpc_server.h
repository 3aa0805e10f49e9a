#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/service/agent_api.h"
#include "agent/service/call_observer.h"
#include "agent/service/tls_files.h"

namespace sma::service {

struct GrpcServerOptions {
  std::string address = "localhost";  // without brackets, or "unix:PATH"
  uint16_t port = 8080;               // 0: a free one
  std::optional<TlsFiles> tls;        // without it, requests travel in clear
  uint32_t max_calls = 128;           // at work at once; more wait; those of plugins apart
  CallObserver observer;              // may be empty
};

/// The gRPC server: the published service, the admin service, the standard health service and
/// reflection.
class GrpcServer {
 public:
  /// Begins to listen and to take calls; the health service says NOT_SERVING. `agent` and `admin`
  /// must outlive the server. ALREADY_EXISTS: the address is in use; INVALID_ARGUMENT: an address
  /// or a file of TLS is no good. Blocks shortly.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(Agent& agent, Admin& admin,
                                                           GrpcServerOptions options);

  /// Stop() without time for the calls that are going on.
  ~GrpcServer();

  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  /// "127.0.0.1:8080", "[::1]:8080" or "unix:PATH".
  const std::vector<std::string>& addresses() const;
  /// 0 for a Unix socket.
  uint16_t port() const;

  /// What the health service says: the target answers, and the record was compared with it.
  /// Thread-safe.
  void SetServing(bool serving);

  /// Ends the service: health says NOT_SERVING, new calls and streams end with UNAVAILABLE; calls
  /// that are going on have `timeout` to end, then their contexts are cancelled. Blocks until every
  /// call has ended. Again: nothing.
  void Stop(std::chrono::milliseconds timeout);

 private:
  class Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sma::service
