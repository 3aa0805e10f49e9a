#include "target/bdev_modules/iscsi/lun_watch.h"

#include <chrono>
#include <utility>

namespace sma::target::bdev_iscsi {
namespace {

constexpr std::chrono::seconds kPause(5);

}  // namespace

std::shared_ptr<LunWatch> LunWatch::Start(Reactor& control, const Session::Options& options,
                                          OnCapacity on_capacity) {
  std::shared_ptr<LunWatch> watch(new LunWatch(control, std::move(on_capacity)));
  watch->session_ = Session::Start(control, options, *watch);
  watch->ScheduleLook();
  return watch;
}

LunWatch::LunWatch(Reactor& control, OnCapacity on_capacity)
    : control_(control), on_capacity_(std::move(on_capacity)) {
  question_.watch = this;
  question_.done = OnAnswer;
}

void LunWatch::Stop() {
  if (std::exchange(stopped_, true)) return;
  control_.CancelTimer(std::exchange(timer_, 0));
  session_->Close();
}

void LunWatch::LookSoon() {
  control_.Post([weak = weak_from_this()] {
    if (auto watch = weak.lock()) watch->Look();
  });
}

// The answer to what it looked for may be older than this.
void LunWatch::OnUnitAttention(uint16_t asc_ascq) {
  if (asc_ascq == kCapacityChanged) LookSoon();
}

void LunWatch::ScheduleLook() {
  timer_ = control_.AddTimer(kPause, [this] {
    timer_ = 0;
    Look();
  });
}

void LunWatch::Look() {
  if (stopped_ || std::exchange(looking_, true)) return;
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
  self.looking_ = false;
  if (self.stopped_) return;
  self.ScheduleLook();
  if (!result.good()) return;
  auto capacity = Capacity::Parse(Bytes(question.answer).first(result.data_bytes));
  if (capacity) self.on_capacity_(*capacity);
}

}  // namespace sma::target::bdev_iscsi
