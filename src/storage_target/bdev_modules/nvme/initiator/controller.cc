// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/controller.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "storage_target/nvme/fabrics.h"

namespace sma::storage_target::initiator {
namespace {

constexpr int kShutdownPolls = 20;
constexpr std::chrono::milliseconds kShutdownPollInterval{25};
constexpr std::chrono::seconds kShutdownTimeout{2};
// Added to the time that the specification gives a controller to detect the end of an association:
// for the different speed of two clocks, the rounding of its timer, and a reactor that is late.
constexpr std::chrono::milliseconds kQuiesceMargin{1000};
// A controller without keep-alive may keep an association for ever.
constexpr std::chrono::milliseconds kQuiesceWithoutKeepAlive{30000};
constexpr uint32_t kLongestKeepAliveMs = 3'600'000;

}  // namespace

// An outstanding admin command. Deletes itself after `done`, which is called exactly once.
struct Controller::Call : Request {
  Controller* controller = nullptr;
  Callback callback;
  std::vector<std::byte> data;
  iovec iov;

  static void Done(Request& request, const nvme::Completion& completion) {
    std::unique_ptr<Call> call(&static_cast<Call&>(request));
    bool dropped = call->controller->admin_->queue_pair().closed();
    if (!dropped) call->callback({completion, call->data});
  }
};

Controller::Controller(Reactor& reactor, const Options& options, Owner& owner)
    : reactor_(reactor), options_(options), owner_(owner) {}

Controller::~Controller() { Close("destroyed"); }

QueuePair::Options Controller::IoQueueOptions(uint16_t queue_id, uint16_t entries) const {
  return {.association = options_.association,
          .queue_id = queue_id,
          .controller_id = admin_->queue_pair().controller_id(),
          .entries = std::clamp<uint16_t>(entries, 2, info_.max_queue_entries),
          .keep_alive_ms = 0,
          .in_capsule_bytes = info_.in_capsule_bytes,
          .ack_timeout_ms = options_.ack_timeout_ms,
          .hold_sent_writes = true};
}

// A controller with traffic based keep-alive checks at the end of each keep-alive time whether a
// command arrived during it, so it may take twice that time. Others that check at intervals do,
// too.
std::chrono::milliseconds Controller::quiesce_time() const {
  if (options_.keep_alive_ms == 0) return kQuiesceWithoutKeepAlive;
  uint32_t keep_alive_ms = granted_keep_alive_ms_;
  if (keep_alive_ms == 0) {
    uint32_t step = std::max(info_.keep_alive_granularity_ms, 1u);
    keep_alive_ms =
        (std::min(options_.keep_alive_ms, kLongestKeepAliveMs) + step - 1) / step * step;
  }
  keep_alive_ms = std::min(keep_alive_ms, kLongestKeepAliveMs);
  return std::chrono::milliseconds(2 * keep_alive_ms + info_.command_quiesce_ms) + kQuiesceMargin;
}

void Controller::Execute(const nvme::Command& command, uint32_t data_bytes, Callback callback) {
  ExecuteWith(command, std::vector<std::byte>(data_bytes), std::move(callback));
}

void Controller::ExecuteWith(const nvme::Command& command, std::vector<std::byte> data,
                             Callback callback) {
  auto call = std::make_unique<Call>();
  auto data_bytes = static_cast<uint32_t>(data.size());
  call->controller = this;
  call->callback = std::move(callback);
  call->data = std::move(data);
  call->iov = {call->data.data(), data_bytes};
  call->command = command;
  call->iovs = &call->iov;
  call->iov_count = 1;
  call->data_bytes = data_bytes;
  call->done = Call::Done;
  if (admin_->Submit(*call)) static_cast<void>(call.release());
}

void Controller::Identify(nvme::Cns cns, uint32_t nsid, Callback callback) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kIdentify);
  command.nsid = nsid;
  command.cdw10 = static_cast<uint32_t>(cns);
  Execute(command, nvme::kIdentifySize, std::move(callback));
}

void Controller::GetLogPage(const nvme::GetLogPage& page, Callback callback) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kGetLogPage);
  command.nsid = nvme::kBroadcastNsid;
  page.Encode(command);
  Execute(command, static_cast<uint32_t>(page.size_bytes), std::move(callback));
}

void Controller::GetProperty(nvme::Property property, bool eight_bytes,
                             std::function<void(uint64_t value)> callback) {
  nvme::PropertyCommand command;
  command.attributes = eight_bytes ? nvme::kPropertySize8 : nvme::kPropertySize4;
  command.offset = static_cast<uint32_t>(property);
  Execute(std::bit_cast<nvme::Command>(command), 0,
          [this, eight_bytes, callback = std::move(callback)](const Result& result) {
            if (!result.ok()) return Fail("cannot read a property");
            uint64_t high = eight_bytes ? result.completion.dw1 : 0;
            callback(high << 32 | result.completion.dw0);
          });
}

void Controller::SetProperty(nvme::Property property, uint32_t value, Callback callback) {
  nvme::PropertyCommand command;
  command.type = nvme::FabricsType::kPropertySet;
  command.attributes = nvme::kPropertySize4;
  command.offset = static_cast<uint32_t>(property);
  command.value = value;
  Execute(std::bit_cast<nvme::Command>(command), 0, std::move(callback));
}

void Controller::SetFeature(nvme::Feature feature, uint32_t value, Callback callback) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kSetFeatures);
  command.cdw10 = static_cast<uint32_t>(feature);
  command.cdw11 = value;
  Execute(command, 0, std::move(callback));
}

// Sends two commands per period, so that a delayed command is harmless.
void Controller::KeepAlive() {
  timer_ = reactor_.AddTimer(std::chrono::milliseconds(options_.keep_alive_ms / 2), [this] {
    timer_ = 0;
    if (keep_alive_open_) return Fail("keep-alive was not answered");
    keep_alive_open_ = true;
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kKeepAlive);
    Execute(command, 0, [this](const Result&) { keep_alive_open_ = false; });
    KeepAlive();
  });
}

void Controller::Shutdown(std::function<void()> done) {
  bool told = state_ == State::kReady;
  reactor_.CancelTimer(std::exchange(timer_, 0));
  on_shutdown_ = std::move(done);
  if (!told) {
    Close("shut down");
    reactor_.Post([finish = std::move(on_shutdown_)] { finish(); });
    return;
  }
  state_ = State::kShuttingDown;
  shutdown_timer_ = reactor_.AddTimer(kShutdownTimeout, [this] {
    shutdown_timer_ = 0;
    FinishShutdown();
  });
  uint32_t cc = cc_ | nvme::kShutdownNormal << nvme::kCcShnShift;
  SetProperty(nvme::Property::kCc, cc, [this](const Result& result) {
    if (!result.ok()) return FinishShutdown();
    PollShutdown(kShutdownPolls);
  });
}

void Controller::PollShutdown(int polls_left) {
  GetProperty(nvme::Property::kCsts, /*eight_bytes=*/false, [this, polls_left](uint64_t csts) {
    bool complete = (csts & nvme::kCstsShutdownMask) == nvme::kCstsShutdownComplete;
    if (complete || polls_left == 0) return FinishShutdown();
    timer_ = reactor_.AddTimer(kShutdownPollInterval, [this, polls_left] {
      timer_ = 0;
      PollShutdown(polls_left - 1);
    });
  });
}

// `done` is posted, because it may destroy this object while the caller still uses it.
void Controller::FinishShutdown() {
  Close("shut down");
  if (!on_shutdown_) return;
  reactor_.Post([done = std::exchange(on_shutdown_, nullptr)] { done(); });
}

void Controller::OnQueueClosed(ReactorQueuePair& queue) {
  if (state_ == State::kShuttingDown) return FinishShutdown();
  std::string reason = queue.queue_pair().close_reason();
  Close(reason);
  owner_.OnControllerClosed(*this, reason);
}

// May run in a command's callback, which is called from the queue pair. The owner, which may
// destroy this object, is therefore notified by a posted message.
void Controller::Fail(const std::string& reason) {
  if (state_ == State::kShuttingDown) return FinishShutdown();
  if (state_ == State::kClosed) return;
  Close(reason);
  timer_ = reactor_.AddTimer(std::chrono::nanoseconds(0), [this, reason] {
    timer_ = 0;
    owner_.OnControllerClosed(*this, reason);
  });
}

void Controller::Close(const std::string& reason) {
  state_ = State::kClosed;
  reactor_.CancelTimer(std::exchange(timer_, 0));
  reactor_.CancelTimer(std::exchange(shutdown_timer_, 0));
  aborts_.clear();
  if (admin_) admin_->Close(reason);
}

}  // namespace sma::storage_target::initiator
