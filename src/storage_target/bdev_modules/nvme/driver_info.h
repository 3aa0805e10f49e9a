// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "storage_target/bdev/value.h"
#include "storage_target/bdev_modules/nvme/initiator/address.h"
#include "storage_target/bdev_modules/nvme/initiator/identity.h"
#include "storage_target/bdev_modules/nvme/path.h"

/// Descriptions of remote subsystems for JSON-RPC, with SPDK's names and formats.
namespace sma::storage_target::bdev_nvme {

/// Returns {"trtype", "adrfam", "traddr", "trsvcid", "subnqn"}.
bdev::Object TransportId(const initiator::Address& address, const std::string& subnqn);

/// Returns a path of a namespace: an element of driver_specific.nvme in bdev_get_bdevs. `info` is
/// the namespace as reported by the path.
bdev::Object NamespacePathInfo(const Path& path, const initiator::NamespaceInfo& info);

const char* PolicyName(MultipathPolicy policy);

}  // namespace sma::storage_target::bdev_nvme
