#pragma once

#include "target/nvme/identify.h"

namespace sma::target::nvmf {

class Controller;

/// The Identify Controller data structure (CNS 01h) of an I/O or discovery controller.
nvme::IdentifyController DescribeController(const Controller& controller);

/// FR of Identify Controller and of the firmware slot log: the program's version.
inline constexpr char kFirmwareRevision[] = "0.1.0";

}  // namespace sma::target::nvmf
