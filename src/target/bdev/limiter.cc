#include "target/bdev/limiter.h"

#include <algorithm>

namespace sma::target::bdev {
namespace {

constexpr double kMaxCostNs = 1e15;

// How long `amount` keeps a clock of `rate` a second busy.
uint64_t CostNs(uint64_t amount, uint64_t rate) {
  double cost = static_cast<double>(amount) * 1e9 / static_cast<double>(rate);
  return static_cast<uint64_t>(std::min(cost, kMaxCostNs));
}

bool IsRead(IoType type) { return type == IoType::kRead || type == IoType::kCompare; }

}  // namespace

void Limiter::Set(const Limits& limits, uint64_t now_ns) {
  auto set = [&](Index index, uint64_t per_sec) {
    Clock& clock = clocks_[index];
    clock.per_sec.store(per_sec, std::memory_order_relaxed);
    uint64_t next = clock.next_ns.load(std::memory_order_relaxed);
    while (!clock.next_ns.compare_exchange_weak(next, std::min(next, now_ns),
                                                std::memory_order_relaxed)) {
    }
  };
  set(kRwIos, limits.rw_ios_per_sec);
  set(kRwBytes, limits.rw_bytes_per_sec);
  set(kReadBytes, limits.r_bytes_per_sec);
  set(kWriteBytes, limits.w_bytes_per_sec);
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

// The turn of what asks, and `amount` later the next one's.
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

uint64_t Limiter::Reserve(const Io& io, uint32_t block_size, uint64_t now_ns) {
  const bool reads = IsRead(io.type);
  if (!reads && io.type != IoType::kWrite) return now_ns;
  uint64_t bytes = io.block_count * block_size;
  uint64_t due_ns = now_ns;
  due_ns = std::max(due_ns, clocks_[kRwIos].Advance(1, now_ns));
  due_ns = std::max(due_ns, clocks_[kRwBytes].Advance(bytes, now_ns));
  return std::max(due_ns, clocks_[reads ? kReadBytes : kWriteBytes].Advance(bytes, now_ns));
}

void Limiter::Cancel(const Io& io, uint32_t block_size) {
  const bool reads = IsRead(io.type);
  if (!reads && io.type != IoType::kWrite) return;
  const uint64_t bytes = io.block_count * block_size;
  clocks_[kRwIos].TurnBack(1);
  clocks_[kRwBytes].TurnBack(bytes);
  clocks_[reads ? kReadBytes : kWriteBytes].TurnBack(bytes);
}

}  // namespace sma::target::bdev
