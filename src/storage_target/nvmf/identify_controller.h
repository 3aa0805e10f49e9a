// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "storage_target/nvme/identify.h"

namespace sma::storage_target::nvmf {

class Controller;

/// Returns the Identify Controller data structure (CNS 01h) of an I/O or discovery controller.
nvme::IdentifyController DescribeController(const Controller& controller);

/// FR of Identify Controller and of the firmware slot log page: the program's version.
inline constexpr char kFirmwareRevision[] = "0.1.0";

}  // namespace sma::storage_target::nvmf
