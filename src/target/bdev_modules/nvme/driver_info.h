#pragma once

#include <string>

#include "target/bdev/value.h"
#include "target/bdev_modules/nvme/initiator/address.h"
#include "target/bdev_modules/nvme/initiator/identity.h"
#include "target/bdev_modules/nvme/path.h"

/// What JSON-RPC tells about remote subsystems, in SPDK's names and forms.
namespace sma::target::bdev_nvme {

/// {"trtype", "adrfam", "traddr", "trsvcid", "subnqn"}.
bdev::Object TransportId(const initiator::Address& address, const std::string& subnqn);

/// A path of a namespace: an element of driver_specific.nvme in bdev_get_bdevs. `info` as the path
/// says.
bdev::Object NamespacePathInfo(const Path& path, const initiator::NamespaceInfo& info);

const char* PolicyName(MultipathPolicy policy);

}  // namespace sma::target::bdev_nvme
