// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/lun_watch.h"

#include <chrono>
#include <utility>

namespace sma::storage_target::bdev_iscsi {
namespace {

constexpr std::chrono::seconds kPause(5);

}  // namespace

std::shared_ptr<LunWatch> LunWatch::Start(Reactor& control, const Session::Options& options,
                                          Callbacks callbacks) {
  std::shared_ptr<LunWatch> watch(new LunWatch(control, std::move(callbacks)));
  watch->session_ = Session::Start(control, options, *watch);
  watch->ScheduleRead();
  return watch;
}

LunWatch::LunWatch(Reactor& control, Callbacks callbacks)
    : control_(control), callbacks_(std::move(callbacks)) {
  question_.watch = this;
  question_.done = OnAnswer;
}

void LunWatch::Stop() {
  if (std::exchange(stopped_, true)) return;
  control_.CancelTimer(std::exchange(timer_, 0));
  session_->Close();
}

void LunWatch::ReadSoon() {
  control_.Post([weak = weak_from_this()] {
    if (auto watch = weak.lock()) watch->ReadNow();
  });
}

void LunWatch::VerifySoon() {
  control_.Post([weak = weak_from_this()] {
    if (auto watch = weak.lock()) watch->session_->RequestVerification();
  });
}

// The answer to a read that is already outstanding may be older than this event.
void LunWatch::OnUnitAttention(uint16_t asc_ascq) {
  if (asc_ascq == kCapacityChanged) ReadSoon();
}

void LunWatch::ScheduleRead() {
  timer_ = control_.AddTimer(kPause, [this] {
    timer_ = 0;
    ReadNow();
  });
}

void LunWatch::ReadNow() {
  if (stopped_ || std::exchange(reading_, true)) return;
  control_.CancelTimer(std::exchange(timer_, 0));
  constexpr uint8_t kAnswerBytes = sizeof question_.answer;
  question_.answer.fill(0);
  MakeReadCapacity(question_, kAnswerBytes);
  question_.SetData(Command::Direction::kIn, question_.answer.data(), kAnswerBytes);
  session_->Submit(question_);
}

void LunWatch::OnAnswer(Command& command, const CommandResult& result) {
  auto& question = static_cast<Question&>(command);
  LunWatch& self = *question.watch;
  self.reading_ = false;
  if (self.stopped_) return;
  self.ScheduleRead();
  if (!result.good()) return;
  auto capacity = Capacity::Parse(Bytes(question.answer).first(result.data_bytes));
  if (capacity) self.callbacks_.on_capacity(*capacity);
}

}  // namespace sma::storage_target::bdev_iscsi
