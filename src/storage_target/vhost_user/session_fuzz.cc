// SPDX-License-Identifier: Apache-2.0

// Fuzzes a session with a front end that sends arbitrary messages, before or after it has started a
// vring, and writes arbitrary data to the vring. Checks that the session either continues or ends,
// and always ends together with its socket.

#include <sys/eventfd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/log.h"
#include "harness/vhost_user/blk_driver.h"
#include "harness/vhost_user/front_end.h"
#include "harness/vhost_user/guest_ram.h"
#include "storage_target/vhost_user/testing/test_target.h"

namespace {

using sma::base::UniqueFd;
using sma::harness::BlkDriver;
using sma::harness::FrontEnd;
using sma::harness::GuestRam;
using namespace sma::storage_target::vhost_user;

constexpr size_t kRamBytes = 1 << 20;
constexpr int kMaxMessages = 32;

// Reads the fuzzer's input piece by piece; returns zeros at its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(data, size) {}
  bool empty() const { return rest_.empty(); }
  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const uint8_t byte = rest_.front();
    rest_ = rest_.subspan(1);
    return byte;
  }
  std::span<const std::byte> Bytes(size_t count) {
    const auto bytes = rest_.first(std::min(count, rest_.size()));
    rest_ = rest_.subspan(bytes.size());
    return std::as_bytes(bytes);
  }

 private:
  std::span<const uint8_t> rest_;
};

// The target, shared by all inputs, with a malloc bdev.
TestTarget& Target() {
  static TestTarget& target = *[] {
    sma::base::InitLog("fuzz", "off");
    auto* made = new TestTarget(1);
    made->AddDisk("disk");
    if (made->Create({.name = "c", .bdev_name = "disk"}) != 0) std::abort();
    if (made->Create({.name = "p", .bdev_name = "disk", .packed_ring = true}) != 0) std::abort();
    return made;
  }();
  return target;
}

void SendMessages(FrontEnd& front_end, const GuestRam& ram, Input& input) {
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  for (int i = 0; i < kMaxMessages && !input.empty(); ++i) {
    const auto request = static_cast<Request>(input.Byte());
    const uint8_t how = input.Byte();
    std::vector<int> fds((how >> 2 & 3), (how & 16) != 0 ? ram.fd() : event.get());
    const uint32_t flags = (how & 1) != 0 ? Header::kNeedReply : 0;
    if (!front_end.Send(request, input.Bytes(input.Byte()), fds, flags)) return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  GuestRam ram(kRamBytes, 0x10000, 0x7000'0000);
  FrontEnd front_end;
  const uint8_t mode = input.Byte();
  const bool packed = (mode & 4) != 0;
  const char* controller = packed ? "p" : "c";
  BlkDriver driver(ram, {.size = 16, .indirect = true, .packed = packed});
  if (!front_end.Connect(Target().SocketPath(controller))) std::abort();
  if ((mode & 1) != 0) {
    GuestRam* rams[] = {&ram};
    if (!front_end.Negotiate() || !front_end.SetMemTable(rams) || !driver.Start(front_end, 0)) {
      std::abort();
    }
  }
  if ((mode & 2) != 0) {
    const auto bytes = input.Bytes(size_t{input.Byte()} * 4);
    std::memcpy(ram.At(ram.guest_address()), bytes.data(), bytes.size());
    driver.Kick();
  }
  SendMessages(front_end, ram, input);
  front_end.Disconnect();
  if (!Target().WaitForSessions(controller, 0)) std::abort();
  return 0;
}
