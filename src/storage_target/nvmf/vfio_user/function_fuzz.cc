// SPDX-License-Identifier: Apache-2.0

// Fuzzes the function with a client that sends arbitrary messages, with one that sends arbitrary
// replies to requests for memory that it does not share, or with a guest that writes arbitrary data
// into its queues. The first byte of the input selects one of these.

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>

#include "harness/vfio_user/client.h"
#include "harness/vfio_user/nvme_driver.h"
#include "harness/vfio_user/unshared_ram.h"
#include "spdlog/spdlog.h"
#include "storage_target/nvmf/vfio_user/testing/test_target.h"

namespace {

namespace vfio_user = sma::storage_target::vfio_user;
namespace nvme = sma::storage_target::nvme;
using sma::harness::GuestRam;
using sma::harness::NvmeDriver;
using sma::harness::NvmeQueue;
using sma::harness::UnsharedRam;
using sma::harness::VfioUserClient;
using sma::storage_target::nvmf::vfio_user::TestTarget;

using Bytes = std::span<const std::byte>;

Bytes Take(Bytes& input, size_t size) {
  Bytes taken = input.first(std::min(size, input.size()));
  input = input.subspan(taken.size());
  return taken;
}

// Sends messages with valid headers: one byte each for the command and the size of the payload.
void SendMessages(VfioUserClient& client, Bytes input, int fd) {
  while (input.size() >= 2) {
    const auto command = static_cast<vfio_user::Command>(std::to_integer<int>(input[0]) % 20);
    const size_t size = std::to_integer<size_t>(input[1]);
    input = input.subspan(2);
    const bool with_fd = command == vfio_user::Command::kDmaMap;
    client.Send(command, Take(input, size), std::span(&fd, with_fd ? 1 : 0), vfio_user::kNoReply);
  }
}

// Moves addresses close to the guest's memory, where they are more interesting.
void MoveNearGuestMemory(nvme::Command& command) {
  command.sgl.address &= 0x1fffff;
  auto* prp2 = reinterpret_cast<uint64_t*>(reinterpret_cast<std::byte*>(&command.sgl) + 8);
  if ((command.flags & nvme::kPsdtMask) == nvme::kPsdtPrp) *prp2 &= 0x1fffff;
}

void RunCommands(NvmeDriver& driver, NvmeQueue& queue, GuestRam& ram, Bytes input) {
  // The guest's memory, from which PRP lists and SGL segments are read, is also filled with the
  // input.
  for (size_t at = 0; at + input.size() <= 65536 && !input.empty(); at += input.size())
    std::memcpy(ram.At(0) + at, input.data(), input.size());
  for (int i = 0; i < 60 && input.size() >= sizeof(nvme::Command); ++i) {
    nvme::Command command;
    std::memcpy(&command, Take(input, sizeof command).data(), sizeof command);
    MoveNearGuestMemory(command);
    queue.Push(command);
  }
  driver.RingTail(queue);
}

// Replies to a message of the server in the way that the next byte of the input selects. Returns
// false for a correct reply.
bool ReplyArbitrarily(VfioUserClient& client, const VfioUserClient::Message& message,
                      Bytes& input) {
  const Bytes choice = Take(input, 1);
  const int what = choice.empty() ? 0 : std::to_integer<int>(choice[0]);
  vfio_user::Header header = message.header;
  switch (what % 8) {
    case 0:
      return true;  // no reply
    case 1:
      client.Reply(header, {}, EFAULT);
      return true;
    case 2:
      client.Reply(header, Take(input, static_cast<size_t>(what)));
      return true;
    case 3: {
      // A correct header, followed by some data.
      std::vector<std::byte> payload(message.payload.begin(), message.payload.begin() + 16);
      const Bytes data = Take(input, static_cast<size_t>(what));
      payload.insert(payload.end(), data.begin(), data.end());
      client.Reply(header, payload);
      return true;
    }
    case 4:
      header.message_id = static_cast<uint16_t>(header.message_id + what / 8 % 3);
      header.command = static_cast<vfio_user::Command>(what / 16);
      client.Reply(header, message.payload);
      return true;
    default:
      return false;
  }
}

// The rings and the first megabyte are shared, but the second megabyte is not.
void RunUnshared(VfioUserClient& client, NvmeDriver& driver, NvmeQueue& queue, GuestRam& ram,
                 Bytes input) {
  constexpr size_t kAnswers = 64;
  Bytes answers = Take(input, kAnswers);
  UnsharedRam far(client, ram.size_bytes(), ram.size_bytes());
  if (far.Map() != 0) std::abort();
  for (size_t at = 0; at < far.bytes().size() && !input.empty(); at += input.size()) {
    const size_t part = std::min(input.size(), far.bytes().size() - at);
    std::memcpy(&far.bytes()[at], input.data(), part);
  }
  far.SetInterceptor([&](const VfioUserClient::Message& message) {
    return ReplyArbitrarily(client, message, answers);
  });
  RunCommands(driver, queue, ram, input);
  for (int i = 0; i < 16; ++i) {
    const auto ask = client.AskWith(vfio_user::Command::kDeviceGetInfo, vfio_user::DeviceInfo{});
    if (!ask) break;
    if (i == 8) client.Unmap(far.guest_address(), far.bytes().size());
  }
  client.SetRequestHandler(nullptr);
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
  const int mode = bytes[0] % 5;
  if (mode == 0) {
    client.SendBytes(input);
  } else {
    if (!client.Negotiate(R"({"capabilities":{"write_multiple":true}})")) std::abort();
    if (client.Map(*ram) != 0 || !driver.Enable(64)) std::abort();
  }
  if (mode == 1) SendMessages(client, input, ram->fd());
  if (mode == 2) RunCommands(driver, driver.admin(), *ram, input);
  NvmeQueue queue(*ram, 1, 64, 64);
  if (mode >= 3 && !driver.Create(queue)) std::abort();
  if (mode == 3) RunCommands(driver, queue, *ram, input);
  if (mode == 4) RunUnshared(client, driver, queue, *ram, input);
  // This read is answered when all input has been processed, unless the session has ended.
  if (mode != 0 && mode != 4)
    client.AskWith(vfio_user::Command::kDeviceGetInfo, vfio_user::DeviceInfo{});
  return 0;
}
