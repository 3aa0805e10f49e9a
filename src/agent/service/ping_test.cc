// Clients that ping often, also without calls, keep their connection. spdk-csi's node agent pings
// each 10 s and gives 1 s for the answer; gRPC's defaults end such a connection. The pings come
// from a bare socket: gRPC's own client does not send more than one a second.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <string>
#include <string_view>

#include "agent/service/server_fixture.h"
#include "base/unique_fd.h"

namespace sma::service {
namespace {

using testing::Return;

// HTTP/2 frame types and flags (RFC 9113 §6).
constexpr char kSettings = 4;
constexpr char kPing = 6;
constexpr char kGoAway = 7;
constexpr char kAck = 1;
constexpr size_t kFrameHeaderBytes = 9;

/// A connection that speaks as much HTTP/2 as pings need.
class Http2Connection {
 public:
  explicit Http2Connection(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
    Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    SendFrame(kSettings, "");
  }

  void SendFrame(char type, std::string_view payload) {
    std::string frame(kFrameHeaderBytes, '\0');
    frame[2] = static_cast<char>(payload.size());
    frame[3] = type;
    Send(frame.append(payload));
  }

  struct Frame {
    char type = 0;
    char flags = 0;
  };

  /// False when the connection ends or nothing comes in time.
  bool Read(Frame& frame) {
    if (!Fill(kFrameHeaderBytes)) return false;
    auto byte = [this](size_t i) { return static_cast<size_t>(static_cast<uint8_t>(buffer_[i])); };
    size_t length = byte(0) << 16 | byte(1) << 8 | byte(2);
    frame = {buffer_[3], buffer_[4]};
    if (!Fill(kFrameHeaderBytes + length)) return false;
    buffer_.erase(0, kFrameHeaderBytes + length);
    return true;
  }

 private:
  void Send(std::string_view bytes) {
    EXPECT_EQ(send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }

  bool Fill(size_t bytes) {
    while (buffer_.size() < bytes) {
      pollfd ready{fd_.get(), POLLIN, 0};
      char chunk[4096];
      if (poll(&ready, 1, 10'000) != 1) return false;
      ssize_t got = recv(fd_.get(), chunk, sizeof(chunk), 0);
      if (got <= 0) return false;
      buffer_.append(chunk, static_cast<size_t>(got));
    }
    return true;
  }

  base::UniqueFd fd_;
  std::string buffer_;
};

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
