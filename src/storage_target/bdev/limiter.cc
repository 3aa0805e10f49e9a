// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/limiter.h"

#include <algorithm>

namespace sma::storage_target::bdev {
namespace {

constexpr double kMaxCostNs = 1e15;

// Returns how far `amount` advances a clock whose limit is `rate` per second, in nanoseconds.
uint64_t CostNs(uint64_t amount, uint64_t rate) {
  double cost = static_cast<double>(amount) * 1e9 / static_cast<double>(rate);
  return static_cast<uint64_t>(std::min(cost, kMaxCostNs));
}

bool IsRead(IoType type) { return type == IoType::kRead || type == IoType::kCompare; }

}  // namespace

void Limiter::Set(const Limits& limits, uint64_t now_ns) {
  clocks_[kRwIos].Set(limits.rw_ios_per_sec, now_ns);
  clocks_[kRwBytes].Set(limits.rw_bytes_per_sec, now_ns);
  clocks_[kReadBytes].Set(limits.r_bytes_per_sec, now_ns);
  clocks_[kWriteBytes].Set(limits.w_bytes_per_sec, now_ns);
}

// The time beyond `now_ns` stands for an amount, which takes another time under the new limit.
void Limiter::Clock::Set(uint64_t new_per_sec, uint64_t now_ns) {
  const uint64_t old_per_sec = per_sec.exchange(new_per_sec, std::memory_order_relaxed);
  if (new_per_sec == old_per_sec) return;
  const bool keeps = old_per_sec != 0 && new_per_sec != 0;
  const double factor =
      keeps ? static_cast<double>(old_per_sec) / static_cast<double>(new_per_sec) : 0;
  uint64_t next = next_ns.load(std::memory_order_relaxed);
  uint64_t scaled = 0;
  do {
    scaled = next;
    if (next > now_ns) {
      const double beyond_ns = static_cast<double>(next - now_ns) * factor;
      scaled = now_ns + static_cast<uint64_t>(std::min(beyond_ns, kMaxCostNs));
    }
  } while (!next_ns.compare_exchange_weak(next, scaled, std::memory_order_relaxed));
}

void Limiter::Clock::TurnBack(uint64_t amount) {
  uint64_t rate = per_sec.load(std::memory_order_relaxed);
  if (rate == 0) return;
  const uint64_t cost_ns = CostNs(amount, rate);
  uint64_t next = next_ns.load(std::memory_order_relaxed);
  while (!next_ns.compare_exchange_weak(next, next > cost_ns ? next - cost_ns : 0,
                                        std::memory_order_relaxed)) {
  }
}

// Returns the start time of a request and advances the clock by its cost. Returns 0 if there is no
// limit.
uint64_t Limiter::Clock::Advance(uint64_t amount, uint64_t now_ns) {
  uint64_t rate = per_sec.load(std::memory_order_relaxed);
  if (rate == 0) return 0;
  const uint64_t cost_ns = CostNs(amount, rate);
  uint64_t earliest_ns = now_ns > kMaxCreditNs ? now_ns - kMaxCreditNs : 0;
  uint64_t next = next_ns.load(std::memory_order_relaxed);
  uint64_t turn = 0;
  do {
    turn = std::max(next, earliest_ns);
  } while (!next_ns.compare_exchange_weak(next, turn + cost_ns, std::memory_order_relaxed));
  return turn;
}

uint64_t Limiter::Advance(Index index, uint64_t amount, uint64_t now_ns, Io& io) {
  const uint64_t turn_ns = clocks_[index].Advance(amount, now_ns);
  if (turn_ns != 0) io.limited_by |= static_cast<uint8_t>(1U << index);
  return turn_ns;
}

void Limiter::TurnBack(Index index, uint64_t amount, const Io& io) {
  if ((io.limited_by >> index & 1) != 0) clocks_[index].TurnBack(amount);
}

uint64_t Limiter::Reserve(Io& io, uint32_t block_size, uint64_t now_ns) {
  const bool reads = IsRead(io.type);
  io.limited_by = 0;
  if (!reads && io.type != IoType::kWrite) return now_ns;
  uint64_t bytes = io.block_count * block_size;
  uint64_t due_ns = now_ns;
  due_ns = std::max(due_ns, Advance(kRwIos, 1, now_ns, io));
  due_ns = std::max(due_ns, Advance(kRwBytes, bytes, now_ns, io));
  return std::max(due_ns, Advance(reads ? kReadBytes : kWriteBytes, bytes, now_ns, io));
}

void Limiter::Cancel(const Io& io, uint32_t block_size) {
  const uint64_t bytes = io.block_count * block_size;
  TurnBack(kRwIos, 1, io);
  TurnBack(kRwBytes, bytes, io);
  TurnBack(IsRead(io.type) ? kReadBytes : kWriteBytes, bytes, io);
}

}  // namespace sma::storage_target::bdev
