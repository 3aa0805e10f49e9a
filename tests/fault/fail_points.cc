// SPDX-License-Identifier: Apache-2.0

#include "fault/fail_points.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace sma::fault {

void FailPoints::ReadPlan() {
  if (plan_path_.empty()) return;
  std::ifstream file(plan_path_);
  Plan plan;
  std::string when;
  if (!(file >> plan.step >> when >> plan.victim >> plan.number)) {
    plan_.reset();
    return;
  }
  if (plan_ && plan_->number == plan.number) return;
  plan.after = when == "after";
  plan.step += steps_;
  plan_ = plan;
}

uint64_t FailPoints::Begin() {
  base::MutexLock lock(mutex_);
  ReadPlan();
  const uint64_t step = ++steps_;
  if (plan_ && step == plan_->step && !plan_->after) Kill();
  return step;
}

void FailPoints::End(uint64_t step) {
  base::MutexLock lock(mutex_);
  ReadPlan();
  if (plan_ && step == plan_->step && plan_->after) Kill();
}

bool FailPoints::IsNear(size_t count) {
  base::MutexLock lock(mutex_);
  ReadPlan();
  return plan_ && plan_->step > steps_ && plan_->step <= steps_ + count;
}

// A process that kills itself executes nothing more. If another process is killed, the following
// steps show the effect.
void FailPoints::Kill() {
  const int victim = plan_->victim == 0 ? ::getpid() : plan_->victim;
  plan_.reset();
  const bool still_asked_for = std::remove(plan_path_.c_str()) == 0;
  if (still_asked_for) ::kill(victim, SIGKILL);
}

std::vector<absl::StatusOr<jsonrpc::Json>> FaultyCaller::CallMany(
    const base::Context& context, std::span<const jsonrpc::Request> requests) {
  if (!points_.IsNear(requests.size())) {
    std::vector<uint64_t> steps;
    for (size_t i = 0; i < requests.size(); ++i) steps.push_back(points_.Begin());
    auto results = target_.CallMany(context, requests);
    for (uint64_t step : steps) points_.End(step);
    return results;
  }
  std::vector<absl::StatusOr<jsonrpc::Json>> results;
  for (size_t i = 0; i < requests.size(); ++i) {
    const uint64_t step = points_.Begin();
    auto result = target_.CallMany(context, requests.subspan(i, 1));
    points_.End(step);
    results.push_back(std::move(result.front()));
  }
  return results;
}

absl::Status FaultyStore::Commit(std::span<const record::Change* const> changes,
                                 record::Durability durability) {
  const uint64_t step = points_.Begin();
  absl::Status status = store_->Commit(changes, durability);
  points_.End(step);
  return status;
}

}  // namespace sma::fault
