// SPDX-License-Identifier: Apache-2.0

// Asynchronous events of a controller, and commands outside of its start.

#include <algorithm>
#include <utility>

#include "storage_target/bdev_modules/nvme/initiator/controller.h"

namespace sma::storage_target::initiator {

void Controller::AwaitEvent() {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kAsyncEventRequest);
  Execute(command, 0, [this](const Result& result) {
    // A rejected command is not repeated, because the controller does not support events.
    if (result.ok() && ready()) HandleEvent(result.completion.dw0);
  });
}

// A controller sends an event again only after the log page that it names has been read (NVMe Base
// 2.0 §5.2).
void Controller::HandleEvent(uint32_t dw0) {
  auto type = static_cast<nvme::AsyncEventType>(dw0 & 7);
  auto notice = static_cast<nvme::AsyncEventNotice>(dw0 >> 8 & 0xff);
  if (type == nvme::AsyncEventType::kNotice) {
    switch (notice) {
      case nvme::AsyncEventNotice::kNamespaceAttributeChanged:
        return owner_.OnNamespaceEvent(*this, [weak = std::weak_ptr(self_)] {
          if (auto self = weak.lock()) (*self)->ReadChangedNamespaces();
        });
      case nvme::AsyncEventNotice::kAnaChange:
        return ReadAnaLog(/*event_seen=*/true, [this](const AnaGroups& groups) {
          AwaitEvent();
          owner_.OnAnaChanged(*this, groups);
        });
      case nvme::AsyncEventNotice::kDiscoveryLogChange:  // read by the owner
        AwaitEvent();
        return owner_.OnDiscoveryLogChanged(*this);
      case nvme::AsyncEventNotice::kFirmwareActivation:
        break;
    }
  }
  // The page is read only to enable the next event.
  nvme::GetLogPage page{static_cast<nvme::LogPage>(dw0 >> 16 & 0xff), false, sizeof(nvme::SmartLog),
                        0, false};
  GetLogPage(page, [this](const Result&) { AwaitEvent(); });
}

void Controller::ReadChangedNamespaces() {
  if (!ready()) return;
  nvme::GetLogPage page{nvme::LogPage::kChangedNamespaces, false, sizeof(nvme::NamespaceList), 0,
                        false};
  GetLogPage(page, [this](const Result&) {
    AwaitEvent();
    owner_.OnNamespacesChanged(*this);
  });
}

void Controller::ReadAnaLog(bool event_seen,
                            std::function<void(const AnaGroups& groups)> callback) {
  size_t size = std::min<size_t>(AnaLogSize(info_.ana_group_count), info_.max_transfer_bytes);
  nvme::GetLogPage page{nvme::LogPage::kAna, !event_seen, size, 0, false, nvme::kAnaGroupsOnly};
  GetLogPage(page, [callback = std::move(callback)](const Result& result) {
    callback(result.ok() ? ParseAnaLog(result.data) : AnaGroups{});
  });
}

void Controller::Abort(uint16_t queue_id, uint16_t cid, std::function<void()> done) {
  if (!ready()) return;
  aborts_.push_back({queue_id, cid, std::move(done)});
  SendAborts();
}

void Controller::SendAborts() {
  while (ready() && !aborts_.empty() && aborts_under_way_ < info_.abort_limit) {
    PendingAbort abort = std::move(aborts_.front());
    aborts_.pop_front();
    ++aborts_under_way_;
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kAbort);
    command.cdw10 = uint32_t{abort.cid} << 16 | abort.queue_id;
    // The completion of the command itself shows whether it was aborted.
    Execute(command, 0, [this, done = std::move(abort.done)](const Result&) {
      --aborts_under_way_;
      done();
      SendAborts();
    });
  }
}

}  // namespace sma::storage_target::initiator
