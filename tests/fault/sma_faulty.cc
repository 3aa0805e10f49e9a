// SPDX-License-Identifier: Apache-2.0

// The agent with fail points around its record and its target. This program is for tests and is
// never installed.

#include <chrono>
#include <cstdlib>
#include <memory>
#include <utility>

#include "fault/fail_points.h"
#include "sma/run.h"

int main(int argc, char** argv) {
  using sma::fault::FailPoints;
  const char* plan_path = std::getenv("SMA_FAULT_PLAN");
  FailPoints points(plan_path == nullptr ? "" : plan_path);
  sma::apps::Decorators decorators;
  // Each case that leaves a call unfinished waits for this time.
  decorators.options = [](sma::core::Options& options) {
    options.late_action_time = std::chrono::milliseconds(100);
    // Periodic work is disabled, because its steps would be counted together with those of the
    // tested call.
    options.watch_period = std::chrono::nanoseconds(0);
  };
  decorators.store = [&](std::unique_ptr<sma::record::Store> store) {
    return std::make_unique<sma::fault::FaultyStore>(std::move(store), points);
  };
  decorators.target = [&](sma::jsonrpc::Caller& client) {
    return std::make_unique<sma::fault::FaultyCaller>(client, points);
  };
  return sma::apps::RunAgent(argc, argv, std::move(decorators));
}
