// SPDX-License-Identifier: Apache-2.0

// Fuzzes the data that a controller sends to a host with outstanding commands: checks that the host
// does not crash and that every command ends exactly once.

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "storage_target/bdev_modules/nvme/initiator/queue_pair.h"

namespace {

using namespace sma;
using namespace sma::storage_target;
using initiator::QueuePair;
using initiator::Request;

struct CountedRequest : Request {
  int times_done = 0;
  std::vector<std::byte> data;
  std::array<iovec, 3> buffers;

  void Prepare(nvme::IoOpcode opcode, uint32_t size) {
    data.resize(size);
    buffers = {iovec{data.data(), size / 3}, iovec{data.data() + size / 3, 0},
               iovec{data.data() + size / 3, size - size / 3}};
    command.opcode = static_cast<uint8_t>(opcode);
    iovs = buffers.data();
    iov_count = buffers.size();
    data_bytes = size;
    done = [](Request& self, const nvme::Completion&) {
      ++static_cast<CountedRequest&>(self).times_done;
    };
  }
};

template <typename T>
std::string_view AsBytes(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

class Connection {
 public:
  explicit Connection(bool digests) : queue_(MakeOptions(digests)) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0) std::abort();
    remote_.Reset(fds[0]);
    queue_.StartOn(base::UniqueFd(fds[1]));
    nvme::tcp::IcResp response;
    response.digests = digests ? nvme::tcp::kDigestData : 0;
    response.maxh2cdata = 4096;
    Send(AsBytes(response));
    nvme::tcp::CapsuleResp connected;
    connected.completion.dw0 = 1;
    Send(AsBytes(connected));
    if (!queue_.ready()) std::abort();
  }

  void Send(std::string_view bytes) {
    while (!bytes.empty() && !queue_.closed()) {
      ssize_t size = send(remote_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (size > 0) bytes.remove_prefix(static_cast<size_t>(size));
      Poll();
    }
    Poll();
  }

  QueuePair& queue() { return queue_; }

 private:
  static QueuePair::Options MakeOptions(bool digests) {
    return {.association = {.address = *initiator::Address::Parse("127.0.0.1", "1"),
                            .source = {},
                            .subnqn = "nqn.2016-06.io.spdk:a",
                            .hostnqn = "nqn.2016-06.io.spdk:b",
                            .host_id = {},
                            .data_digest = digests},
            .queue_id = 1,
            .entries = 6,
            .in_capsule_bytes = 512};
  }
  void Poll() {
    while (queue_.Poll()) {
    }
    std::array<char, 65536> sink;
    while (recv(remote_.get(), sink.data(), sink.size(), 0) > 0) {
    }
  }

  base::UniqueFd remote_;
  QueuePair queue_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size < 2) return 0;
  const std::string_view input(reinterpret_cast<const char*>(bytes) + 2, size - 2);
  std::array<CountedRequest, 7> requests;
  Connection connection((bytes[0] & 1) != 0);
  requests[0].Prepare(nvme::IoOpcode::kRead, 512);
  requests[1].Prepare(nvme::IoOpcode::kRead, 8192);
  requests[2].Prepare(nvme::IoOpcode::kWrite, 512);
  requests[3].Prepare(nvme::IoOpcode::kWrite, 16384);
  requests[4].Prepare(nvme::IoOpcode::kFlush, 0);
  requests[5].Prepare(nvme::IoOpcode::kWrite, 4096);
  requests[6].Prepare(nvme::IoOpcode::kRead, 64);
  for (CountedRequest& request : requests) {
    if (!connection.queue().Submit(request)) std::abort();
  }
  const size_t piece = bytes[1] == 0 ? input.size() : bytes[1];
  for (size_t at = 0; at < input.size(); at += piece) connection.Send(input.substr(at, piece));
  connection.queue().Close("over");
  for (const CountedRequest& request : requests) {
    if (request.times_done != 1) std::abort();
  }
  return 0;
}
