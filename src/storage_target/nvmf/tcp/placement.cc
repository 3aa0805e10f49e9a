// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/placement.h"

#include <algorithm>
#include <numeric>

namespace sma::storage_target::nvmf::tcp {
namespace {

constexpr uint64_t kMinSampleNs = 100'000'000;
constexpr double kNsPerSecondAsDouble = 1e9;
// Weight of an admin queue (keep-alives and similar commands) relative to an I/O queue.
constexpr double kAdminWeight = 1.0 / 16;
// Below this total number of commands per second, the distribution of commands is ignored.
constexpr double kMinTotalRate = 1000;

double QueueWeight(const Placement::Load& load) {
  return static_cast<double>(load.io_queue_pairs + load.pending_connections) +
         kAdminWeight * static_cast<double>(load.admin_queue_pairs);
}

}  // namespace

void Placement::MeasureRates(std::span<const Load> loads, uint64_t now_ns) {
  rates_.resize(loads.size());
  bool first = sampled_commands_.empty();
  if (!first && now_ns - sampled_ns_ < kMinSampleNs) return;
  sampled_commands_.resize(loads.size());
  double seconds = static_cast<double>(now_ns - sampled_ns_) / kNsPerSecondAsDouble;
  for (size_t i = 0; i < loads.size(); ++i) {
    uint64_t commands = loads[i].completed_commands - sampled_commands_[i];
    rates_[i] = first ? 0 : static_cast<double>(commands) / seconds;
    sampled_commands_[i] = loads[i].completed_commands;
  }
  sampled_ns_ = now_ns;
}

// A reactor's load is its share of all queues plus its share of all recent commands.
size_t Placement::Choose(std::span<const Load> loads, uint64_t now_ns) {
  MeasureRates(loads, now_ns);
  double queues = 0;
  for (const Load& load : loads) queues += QueueWeight(load);
  double rate = std::max(kMinTotalRate, std::accumulate(rates_.begin(), rates_.end(), 0.0));
  size_t best = 0;
  double best_score = -1;
  for (size_t step = 0; step < loads.size(); ++step) {
    size_t i = (next_ + step) % loads.size();
    double score = (queues > 0 ? QueueWeight(loads[i]) / queues : 0) + rates_[i] / rate;
    if (best_score >= 0 && score >= best_score) continue;
    best = i;
    best_score = score;
  }
  next_ = (best + 1) % loads.size();
  return best;
}

}  // namespace sma::storage_target::nvmf::tcp
