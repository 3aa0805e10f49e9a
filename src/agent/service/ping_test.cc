// SPDX-License-Identifier: Apache-2.0

// Clients that ping frequently, even with no call in progress, keep their connection. spdk-csi's
// node agent pings every 10 s and waits 1 s for the answer; with gRPC's defaults such a connection
// is closed. The
// test sends pings from a bare socket, because gRPC's own client does not send more than one per
// second.

#include "agent/service/testing/http2_connection.h"
#include "agent/service/testing/server_fixture.h"

namespace sma::service {
namespace {

using PingTest = ServerFixture;

TEST_F(PingTest, ManyPingsWithoutCallsAreAllAnswered) {
  StartServer();
  Http2Connection connection(server_->port());
  constexpr int kPings = 50;
  for (int i = 0; i < kPings; ++i) {
    connection.SendFrame(kPing, "12345678");
    Http2Connection::Frame frame;
    do {
      ASSERT_TRUE(connection.Read(frame)) << "after " << i << " pings";
      ASSERT_NE(frame.type, kGoAway) << "after " << i << " pings";
    } while (frame.type != kPing || frame.flags != kAck);
  }
}

}  // namespace
}  // namespace sma::service
