// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/identify_controller.h"

#include <bit>

#include "storage_target/nvme/nqn.h"
#include "storage_target/nvme/property.h"
#include "storage_target/nvmf/controller.h"

namespace sma::storage_target::nvmf {
namespace {

uint8_t LogOfPages(uint32_t size_bytes) {
  return static_cast<uint8_t>(std::bit_width(size_bytes / nvme::kMinPageSize) - 1);
}

// Fields that I/O and discovery controllers have in common.
nvme::IdentifyController DescribeCommon(const Controller& controller) {
  const SubsystemOptions& subsystem = controller.subsystem();
  const TransportLimits& limits = controller.limits();
  nvme::IdentifyController id;
  nvme::SetPadded(id.serial_number, subsystem.serial_number, ' ');
  nvme::SetPadded(id.model_number, subsystem.model_number, ' ');
  nvme::SetPadded(id.firmware_revision, kFirmwareRevision, ' ');
  nvme::SetPadded(id.subsystem_nqn, subsystem.nqn, '\0');
  id.mdts = LogOfPages(limits.max_io_size);
  id.controller_id = controller.id();
  id.version = nvme::MakeVersion(1, 4);
  id.ctratt = nvme::kCtrattHostId128Bit;
  id.async_event_request_limit = AsyncEvents::kRequestLimit - 1;
  id.lpa = nvme::kLpaExtendedData;
  id.keep_alive_100ms = static_cast<uint16_t>(limits.keep_alive_granularity_ms / 100);
  id.max_commands = static_cast<uint16_t>(limits.max_queue_depth);
  id.sgls = nvme::kSglsSupported;
  return id;
}

void DescribeMessages(const TransportLimits& limits, nvme::IdentifyController& id) {
  id.sgls |= nvme::kSglsInCapsuleOffset | nvme::kSglsTransportDataBlock;
  id.ioccsz = static_cast<uint32_t>((sizeof(nvme::Command) + limits.in_capsule_data_size) / 16);
  id.iorcsz = sizeof(nvme::Completion) / 16;
  id.msdbd = 1;
}

void DescribeIo(const Controller& controller, nvme::IdentifyController& id) {
  id.controller_type = nvme::ControllerType::kIo;
  id.cmic = nvme::kCmicMultiplePorts | nvme::kCmicMultipleControllers;
  id.oaes = nvme::kOaesNamespaceAttributes;
  id.ctratt |= nvme::kCtrattTrafficBasedKeepAlive;
  id.abort_limit = 3;
  id.frmw = 1 << 1 | 1;  // one slot, read-only
  id.lpa |= nvme::kLpaCommandsEffects;
  id.sqes = nvme::kSqEntryShift << 4 | nvme::kSqEntryShift;
  id.cqes = nvme::kCqEntryShift << 4 | nvme::kCqEntryShift;
  id.namespace_count = controller.subsystem().max_namespaces;
  id.max_allowed_namespaces = controller.subsystem().max_namespaces;
  id.oncs = nvme::kOncsCompare | nvme::kOncsDatasetManagement | nvme::kOncsWriteZeroes |
            nvme::kOncsTimestamp;
  id.vwc = nvme::kVwcPresent | nvme::kVwcNoFlushAll;
}

}  // namespace

nvme::IdentifyController DescribeController(const Controller& controller) {
  nvme::IdentifyController id = DescribeCommon(controller);
  if (controller.is_discovery()) {
    id.controller_type = nvme::ControllerType::kDiscovery;
    id.oaes = nvme::kOaesDiscoveryLogChange;
  } else {
    DescribeIo(controller, id);
  }
  if (controller.limits().memory_based) {
    id.oacs = nvme::kOacsDoorbellBufferConfig;
  } else {
    DescribeMessages(controller.limits(), id);
  }
  return id;
}

}  // namespace sma::storage_target::nvmf
