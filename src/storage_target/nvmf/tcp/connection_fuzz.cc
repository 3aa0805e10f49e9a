// SPDX-License-Identifier: Apache-2.0

// Fuzzes the target with a host that sends arbitrary data: the fuzzer's input follows the first
// steps of a connection, which the first byte selects.

#include <cstdint>
#include <cstdlib>
#include <span>

#include "spdlog/spdlog.h"
#include "storage_target/nvmf/tcp/testing/test_target.h"

namespace {

using sma::storage_target::nvmf::tcp::TestHost;
using sma::storage_target::nvmf::tcp::TestTarget;

// The target may close the connection: a failed send ends the test case.
void SendAll(int fd, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0) return;
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  static TestTarget* target = [] {
    spdlog::set_level(spdlog::level::off);
    return new TestTarget();
  }();
  static TestHost* admin = new TestHost(target->DialAdmin());
  if (size < 2) return 0;
  uint8_t digests = bytes[0] >> 4 & 3;
  TestHost host = target->Dial();
  switch (bytes[0] & 3) {
    case 0:  // nothing yet
      break;
    case 1:  // initialised
      host.Initialize(digests);
      break;
    case 2:  // its own admin queue
      host.Initialize(digests);
      host.Connect(TestHost::ConnectDataFor(TestTarget::kNqn));
      host.Enable();
      break;
    default:  // an I/O queue with a write that waits for its data
      host.Initialize(digests);
      host.Connect(TestHost::ConnectDataFor(TestTarget::kNqn, target->cntlid()), 1);
      sma::storage_target::nvme::Command write;
      write.opcode = static_cast<uint8_t>(sma::storage_target::nvme::IoOpcode::kWrite);
      write.nsid = 1;
      write.cdw12 = 3;
      write.sgl.length = 16384;
      host.Execute(write);
      break;
  }
  SendAll(host.fd(), {bytes + 1, size - 1});
  host.Close();
  // The reactor has processed all input when it replies to another host.
  admin->GetProperty(sma::storage_target::nvme::Property::kCsts);
  return 0;
}
