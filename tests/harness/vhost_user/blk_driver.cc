// SPDX-License-Identifier: Apache-2.0

#include "harness/vhost_user/blk_driver.h"

#include <linux/virtio_blk.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace sma::harness {
namespace {

void AddPieces(const GuestBuffer& buffer, size_t piece_bytes, bool writable,
               std::vector<DriverBuffer>& chain) {
  for (size_t at = 0; at < buffer.bytes.size(); at += piece_bytes) {
    const size_t size = std::min(piece_bytes, buffer.bytes.size() - at);
    chain.push_back({buffer.guest_address + at, static_cast<uint32_t>(size), writable});
  }
}

std::unique_ptr<RingDriver> MakeRing(GuestRam& ram, const RingOptions& options) {
  if (options.packed) return std::make_unique<PackedDriver>(ram, options);
  return std::make_unique<SplitDriver>(ram, options);
}

}  // namespace

BlkDriver::BlkDriver(GuestRam& ram, const RingOptions& options)
    : ram_(ram),
      ring_(MakeRing(ram, options)),
      kick_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      call_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

bool BlkDriver::Start(FrontEnd& front_end, uint16_t index, std::optional<uint32_t> base) {
  return front_end.StartVring(index, *ring_, ram_, base.value_or(ring_->initial_base()),
                              kick_.get(), call_.get());
}

std::optional<uint16_t> BlkDriver::SubmitQuietly(const Request& request) {
  const virtio_blk_outhdr header{.type = request.type, .ioprio = 0, .sector = request.sector};
  GuestBuffer head = ram_.Allocate(sizeof header);
  std::memcpy(head.bytes.data(), &header, sizeof header);
  GuestBuffer out = ram_.Allocate(request.out.size(), 512);
  std::ranges::copy(request.out, out.bytes.begin());
  Sent sent{.status = ram_.Allocate(1), .in = ram_.Allocate(request.in_bytes, 512)};
  sent.status.bytes[0] = std::byte{0xff};
  std::vector<DriverBuffer> chain{{head.guest_address, sizeof header, false}};
  AddPieces(out, request.segment_bytes, false, chain);
  AddPieces(sent.in, request.segment_bytes, true, chain);
  chain.push_back({sent.status.guest_address, 1, true});
  std::optional<uint16_t> id = ring_->Add(chain);
  if (id) sent_[*id] = sent;
  return id;
}

std::optional<uint16_t> BlkDriver::Submit(const Request& request) {
  std::optional<uint16_t> head = SubmitQuietly(request);
  if (head && ring_->Publish()) Kick();
  return head;
}

void BlkDriver::Kick() {
  const uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(kick_.get(), &one, sizeof one);
}

bool BlkDriver::WaitForCall() {
  pollfd waited{.fd = call_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&waited, 1, std::chrono::milliseconds(FrontEnd::kTimeout).count()) != 1) return false;
  uint64_t count = 0;
  [[maybe_unused]] ssize_t size = ::read(call_.get(), &count, sizeof count);
  return true;
}

std::optional<BlkDriver::Answer> BlkDriver::Wait(uint16_t head) {
  while (!answers_.contains(head)) {
    std::optional<RingDriver::Used> used = ring_->PopUsed();
    if (!used) {
      ring_->EnableInterrupts();
      used = ring_->PopUsed();
    }
    if (!used) {
      if (!WaitForCall()) return std::nullopt;
      continue;
    }
    const Sent& sent = sent_[used->head];
    answers_[used->head] = {.status = static_cast<uint8_t>(sent.status.bytes[0]),
                            .written_bytes = used->written_bytes,
                            .in = {sent.in.bytes.begin(), sent.in.bytes.end()}};
  }
  Answer answer = std::move(answers_[head]);
  answers_.erase(head);
  return answer;
}

std::optional<BlkDriver::Answer> BlkDriver::Do(const Request& request) {
  std::optional<uint16_t> head = Submit(request);
  return head ? Wait(*head) : std::nullopt;
}

uint8_t BlkDriver::Read(uint64_t sector, std::span<std::byte> data) {
  std::optional<Answer> answer =
      Do({.type = VIRTIO_BLK_T_IN, .sector = sector, .in_bytes = data.size()});
  if (!answer) return 0xff;
  std::ranges::copy(answer->in, data.begin());
  return answer->status;
}

uint8_t BlkDriver::Write(uint64_t sector, std::span<const std::byte> data) {
  std::optional<Answer> answer = Do({.type = VIRTIO_BLK_T_OUT, .sector = sector, .out = data});
  return answer ? answer->status : 0xff;
}

uint8_t BlkDriver::Flush() {
  std::optional<Answer> answer = Do({.type = VIRTIO_BLK_T_FLUSH});
  return answer ? answer->status : 0xff;
}

uint8_t BlkDriver::Zero(uint32_t type, uint64_t sector, uint32_t sector_count, uint32_t flags) {
  const virtio_blk_discard_write_zeroes segment{
      .sector = sector, .num_sectors = sector_count, .flags = flags};
  std::optional<Answer> answer = Do({.type = type, .out = std::as_bytes(std::span(&segment, 1))});
  return answer ? answer->status : 0xff;
}

}  // namespace sma::harness
