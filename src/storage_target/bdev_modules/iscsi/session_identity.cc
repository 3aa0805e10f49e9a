// SPDX-License-Identifier: Apache-2.0

// The verification of the logical unit's identity.

#include <algorithm>
#include <utility>

#include "storage_target/bdev_modules/iscsi/lun_info.h"
#include "storage_target/bdev_modules/iscsi/session.h"

namespace sma::storage_target::bdev_iscsi {
namespace {

using Kind = CommandResult::Kind;

constexpr uint64_t kNsPerMs = 1'000'000;
constexpr uint64_t kVerifyTimeoutNs = 5000 * kNsPerMs;
// While I/O continues, the next verification follows after this many times the duration of the last
// one, within these bounds, so that the pauses take at most 2% of the time.
constexpr uint64_t kVerifyPeriodFactor = 50;
constexpr uint64_t kMinVerifyPeriodNs = 50 * kNsPerMs;
constexpr uint64_t kMaxVerifyPeriodNs = 1000 * kNsPerMs;
// Without commands for this time, the unit may have been replaced without an error of any command.
// Scripts take a few milliseconds to remove a unit and add another one. The first command after the
// pause takes one round trip more.
constexpr uint64_t kTrustedPauseNs = kNsPerMs;

constexpr CommandResult kNoUnit{.status = SCSI_STATUS_CHECK_CONDITION,
                                .sense_key = SCSI_SENSE_ILLEGAL_REQUEST,
                                .asc_ascq = kUnitNotSupported};

// Returns true if INQUIRY data report that a unit is connected (the peripheral qualifier, SPC-4
// §6.6.2).
bool IsConnected(Bytes data) { return !data.empty() && data[0] >> 5 == 0; }

}  // namespace

void Session::RequestVerification() {
  if (options_.identity.empty() || state_ == State::kClosed) return;
  verify_requested_ = true;
  distrusted_ = true;
  if (state_ == State::kReady) SchedulePump();
}

void Session::Distrust() {
  if (options_.identity.empty()) return;
  const bool known = distrusted_;
  RequestVerification();
  if (!known) observer_->OnMayBeReplaced();
}

bool Session::MustVerify() const {
  if (options_.identity.empty()) return false;
  if (verify_requested_) return true;
  if (waiting_.empty()) return false;
  const uint64_t now = reactor_.now_ns();
  const bool paused = in_flight_count() == 0 && now - last_answer_ns_ > kTrustedPauseNs;
  return paused || now - verified_ns_ > verify_period_ns_;
}

void Session::Verify() {
  constexpr uint16_t kPageBytes = sizeof verification_.page;
  verification_.page.fill(0);  // removes the previous answer
  MakeInquiry(verification_, true, kPageIdentification, kPageBytes);
  verification_.SetData(Command::Direction::kIn, verification_.page.data(), kPageBytes);
  verification_.aborted = false;
  verify_sent_ns_ = reactor_.now_ns();
  verification_.deadline_ns = verify_sent_ns_ + kVerifyTimeoutNs;
  if (!connection_->Submit(verification_)) return OnClosed(connection_->error());
  verifies_live_ = state_ == State::kReady;
  state_ = State::kVerifying;
  verify_requested_ = false;
  connection_->Flush();
  ScheduleTick();
}

void Session::OnVerified(const CommandResult& result) {
  const bool live = std::exchange(verifies_live_, false);
  state_ = State::kConnecting;
  const Bytes page = Bytes(verification_.page).first(result.data_bytes);
  if (result.good() && IsConnected(page)) {
    if (ParseIdentity(page) != options_.identity) {
      return OnOtherUnit({.kind = Kind::kReplaced}, live,
                         "the logical unit has been replaced by another one");
    }
    verified_ns_ = reactor_.now_ns();
    verify_period_ns_ = std::clamp((verified_ns_ - verify_sent_ns_) * kVerifyPeriodFactor,
                                   kMinVerifyPeriodNs, kMaxVerifyPeriodNs);
    distrusted_ = verify_requested_;  // requested again meanwhile
    return BecomeReady(live);
  }
  if (live && RetryActionFor(result) != RetryAction::kFinal) {
    state_ = State::kReady;
    verify_requested_ = true;
    return HoldBack();
  }
  OnOtherUnit(kNoUnit, live, "the logical unit is not connected");
}

// After a login, commands wait for a unit that is not connected, because the target may be
// starting. A unit that is removed from a session fails them.
void Session::OnOtherUnit(const CommandResult& outcome, bool live, const std::string& reason) {
  std::shared_ptr<Session> keep = shared_from_this();
  const bool known = std::exchange(distrusted_, true);
  verify_requested_ = true;
  if (live && in_flight_count() == 0) {
    state_ = State::kReady;
    LogOnce(reason);
  } else {
    OnClosed(reason);  // ends the commands that the other unit has received
  }
  if (!known) observer_->OnMayBeReplaced();
  if (live || outcome.kind == Kind::kReplaced) FinishAll(std::move(waiting_), outcome);
}

}  // namespace sma::storage_target::bdev_iscsi
