// Clients that ping often, also without calls, keep their connection. spdk-csi's node agent pings
// each 10 s and gives 1 s for the answer; gRPC's defaults end such a connection. The pings come
// from a bare socket: gRPC's own client does not send more than one a second.

#include "agent/service/http2_connection.h"
#include "agent/service/server_fixture.h"

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
