// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/log_pages.h"

#include <span>

#include "storage_target/nvme/log_page.h"
#include "storage_target/nvme/nqn.h"
#include "storage_target/nvmf/control_call.h"
#include "storage_target/nvmf/discovery_log.h"
#include "storage_target/nvmf/identify_controller.h"

namespace sma::storage_target::nvmf {
namespace {

using nvme::GetLogPage;
using nvme::LogPage;
using nvme::Status;

constexpr LogPage kIoPages[] = {
    LogPage::kSupportedLogPages, LogPage::kError,          LogPage::kSmart, LogPage::kFirmwareSlot,
    LogPage::kChangedNamespaces, LogPage::kCommandsEffects};
constexpr LogPage kDiscoveryPages[] = {LogPage::kSupportedLogPages, LogPage::kError,
                                       LogPage::kDiscovery};

std::span<const LogPage> SupportedPages(const Controller& controller) {
  if (controller.is_discovery()) return kDiscoveryPages;
  return kIoPages;
}

bool IsSupported(const Controller& controller, LogPage page) {
  for (LogPage supported : SupportedPages(controller)) {
    if (supported == page) return true;
  }
  return false;
}

// Sends the requested part of a page, padded with zeroes beyond the end of the page.
void SendPart(QueuePair& queue_pair, Request& request, std::span<const std::byte> page) {
  GetLogPage wanted = GetLogPage::Decode(request.command);
  if (wanted.offset_bytes > page.size()) {
    return queue_pair.Complete(request, Status::kInvalidField);
  }
  if (!queue_pair.SendData(request, page.subspan(wanted.offset_bytes))) return;
  if (wanted.page == LogPage::kChangedNamespaces && wanted.offset_bytes == 0 &&
      wanted.size_bytes >= page.size()) {
    queue_pair.controller().async_events().ChangedNamespacesRead();
  }
  if (!wanted.retain_event) queue_pair.controller().async_events().PageRead(wanted.page);
  queue_pair.Complete(request, Status::kSuccess);
}

template <typename T>
void Send(QueuePair& queue_pair, Request& request, const T& page) {
  SendPart(queue_pair, request, std::as_bytes(std::span(&page, 1)));
}

nvme::SupportedLogPages DescribePages(const Controller& controller) {
  nvme::SupportedLogPages pages{};
  for (LogPage page : SupportedPages(controller)) pages[static_cast<size_t>(page)] = 1;
  return pages;
}

nvme::FirmwareSlotLog DescribeFirmware() {
  nvme::FirmwareSlotLog log;
  nvme::SetPadded(log.revisions[0], kFirmwareRevision, ' ');
  return log;
}

nvme::CommandsEffectsLog DescribeCommands(const TransportLimits& limits) {
  using nvme::AdminOpcode;
  using nvme::IoOpcode;
  nvme::CommandsEffectsLog log;
  for (AdminOpcode opcode : {AdminOpcode::kGetLogPage, AdminOpcode::kIdentify, AdminOpcode::kAbort,
                             AdminOpcode::kSetFeatures, AdminOpcode::kGetFeatures,
                             AdminOpcode::kAsyncEventRequest, AdminOpcode::kKeepAlive}) {
    log.admin[static_cast<size_t>(opcode)] = nvme::kEffectSupported;
  }
  for (AdminOpcode opcode :
       {AdminOpcode::kCreateIoSq, AdminOpcode::kDeleteIoSq, AdminOpcode::kCreateIoCq,
        AdminOpcode::kDeleteIoCq, AdminOpcode::kDoorbellBufferConfig}) {
    if (limits.memory_based) log.admin[static_cast<size_t>(opcode)] = nvme::kEffectSupported;
  }
  for (IoOpcode opcode : {IoOpcode::kFlush, IoOpcode::kRead, IoOpcode::kCompare}) {
    log.io[static_cast<size_t>(opcode)] = nvme::kEffectSupported;
  }
  for (IoOpcode opcode : {IoOpcode::kWrite, IoOpcode::kWriteZeroes, IoOpcode::kDatasetManagement}) {
    log.io[static_cast<size_t>(opcode)] = nvme::kEffectSupported | nvme::kEffectDataChanges;
  }
  return log;
}

nvme::Counter128 DataUnits(uint64_t bytes) { return {.low = (bytes + 511'999) / 512'000}; }

nvme::SmartLog DescribeHealth(const Health& health) {
  nvme::SmartLog log;
  log.data_units_read = DataUnits(health.bytes_read);
  log.data_units_written = DataUnits(health.bytes_written);
  log.host_reads.low = health.reads;
  log.host_writes.low = health.writes;
  log.power_cycles.low = 1;
  log.power_on_hours.low = health.uptime_s / 3600;
  return log;
}

void SendHealth(QueuePair& queue_pair, Request& request) {
  // The log page of a single namespace is not supported (LPA bit 0).
  if (request.command.nsid != 0 && request.command.nsid != nvme::kBroadcastNsid) {
    return queue_pair.Complete(request, Status::kInvalidField);
  }
  if (!queue_pair.AcquireBuffer(request)) return;
  CallControl(
      queue_pair, request,
      [&queue_pair](ControlPlane& control) { return control.HealthOf(queue_pair.controller()); },
      [&](const Health& health) { Send(queue_pair, request, DescribeHealth(health)); });
}

// The page is built when offset 0 is read and then kept, so that a host that reads it in parts
// receives parts of the same page.
void SendDiscoveryLog(QueuePair& queue_pair, Request& request) {
  Controller& controller = queue_pair.controller();
  if (controller.discovery_log != nullptr &&
      GetLogPage::Decode(request.command).offset_bytes != 0) {
    return SendPart(queue_pair, request, controller.discovery_log->page);
  }
  if (!queue_pair.AcquireBuffer(request)) return;
  CallControl(
      queue_pair, request,
      [&queue_pair, present = controller.discovery_log](ControlPlane& control) {
        return control.MakeDiscoveryLog(queue_pair, present);
      },
      [&](const std::shared_ptr<const DiscoveryLog>& log) {
        queue_pair.controller().discovery_log = log;
        SendPart(queue_pair, request, log->page);
      });
}

}  // namespace

void ReadLogPage(QueuePair& queue_pair, Request& request) {
  Controller& controller = queue_pair.controller();
  GetLogPage wanted = GetLogPage::Decode(request.command);
  if (!IsSupported(controller, wanted.page))
    return queue_pair.Complete(request, Status::kInvalidLogPage);
  if (wanted.offset_is_index || wanted.offset_bytes % 4 != 0) {
    return queue_pair.Complete(request, Status::kInvalidField);
  }
  switch (wanted.page) {
    case LogPage::kSupportedLogPages:
      return Send(queue_pair, request, DescribePages(controller));
    case LogPage::kError:
      return Send(queue_pair, request, nvme::ErrorLogEntry());
    case LogPage::kSmart:
      return SendHealth(queue_pair, request);
    case LogPage::kFirmwareSlot:
      return Send(queue_pair, request, DescribeFirmware());
    case LogPage::kChangedNamespaces:
      return Send(queue_pair, request, controller.async_events().changed_namespaces());
    case LogPage::kCommandsEffects:
      return Send(queue_pair, request, DescribeCommands(queue_pair.limits()));
    default:
      return SendDiscoveryLog(queue_pair, request);
  }
}

}  // namespace sma::storage_target::nvmf
