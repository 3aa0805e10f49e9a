// A client that sends anything, and a guest that writes anything into its queues. The first byte of
// the input chooses which.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

#include "harness/vfio_user/client.h"
#include "harness/vfio_user/nvme_driver.h"
#include "spdlog/spdlog.h"
#include "target/nvmf/vfio_user/test_target.h"

namespace {

namespace vfio_user = sma::target::vfio_user;
namespace nvme = sma::target::nvme;
using sma::harness::GuestRam;
using sma::harness::NvmeDriver;
using sma::harness::NvmeQueue;
using sma::harness::VfioUserClient;
using sma::target::nvmf::vfio_user::TestTarget;

using Bytes = std::span<const std::byte>;

Bytes Take(Bytes& input, size_t size) {
  Bytes taken = input.first(std::min(size, input.size()));
  input = input.subspan(taken.size());
  return taken;
}

// Messages whose headers are sound: a byte each for the command and the size of the payload.
void SendMessages(VfioUserClient& client, Bytes input, int fd) {
  while (input.size() >= 2) {
    const auto command = static_cast<vfio_user::Command>(std::to_integer<int>(input[0]) % 20);
    const size_t size = std::to_integer<size_t>(input[1]);
    input = input.subspan(2);
    const bool with_fd = command == vfio_user::Command::kDmaMap;
    client.Send(command, Take(input, size), std::span(&fd, with_fd ? 1 : 0), vfio_user::kNoReply);
  }
}

// Addresses near the guest's memory are worth more than others.
void Tame(nvme::Command& command) {
  command.sgl.address &= 0x1fffff;
  auto* prp2 = reinterpret_cast<uint64_t*>(reinterpret_cast<std::byte*>(&command.sgl) + 8);
  if ((command.flags & nvme::kPsdtMask) == nvme::kPsdtPrp) *prp2 &= 0x1fffff;
}

void RunCommands(NvmeDriver& driver, NvmeQueue& queue, GuestRam& ram, Bytes input) {
  // The guest's memory, which lists of pages and segments are read from, is the input again.
  for (size_t at = 0; at + input.size() <= 65536 && !input.empty(); at += input.size())
    std::memcpy(ram.At(0) + at, input.data(), input.size());
  for (int i = 0; i < 60 && input.size() >= sizeof(nvme::Command); ++i) {
    nvme::Command command;
    std::memcpy(&command, Take(input, sizeof command).data(), sizeof command);
    Tame(command);
    queue.Push(command);
  }
  driver.RingTail(queue);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  static TestTarget* target = [] {
    spdlog::set_level(spdlog::level::off);
    return new TestTarget();
  }();
  static GuestRam* ram = new GuestRam(1 << 20, 0, 0);
  if (size < 2) return 0;
  ram->FreeAll();
  ram->Allocate(65536);
  const Bytes input = std::as_bytes(std::span(bytes + 1, size - 1));
  VfioUserClient client;
  if (!client.Connect(target->socket_path())) std::abort();
  NvmeDriver driver(client, *ram);
  const int mode = bytes[0] % 4;
  if (mode == 0) {
    client.SendBytes(input);
  } else {
    if (!client.Negotiate(R"({"capabilities":{"write_multiple":true}})")) std::abort();
    if (client.Map(*ram) != 0 || !driver.Enable(64)) std::abort();
  }
  if (mode == 1) SendMessages(client, input, ram->fd());
  if (mode == 2) RunCommands(driver, driver.admin(), *ram, input);
  NvmeQueue queue(*ram, 1, 64, 64);
  if (mode == 3) {
    if (!driver.Create(queue)) std::abort();
    RunCommands(driver, queue, *ram, input);
  }
  // All has been taken when this is answered, or the session is ended.
  if (mode != 0) client.AskWith(vfio_user::Command::kDeviceGetInfo, vfio_user::DeviceInfo{});
  return 0;
}
