// SPDX-License-Identifier: Apache-2.0

#pragma once

namespace sma::base {

/// The version of this build: "1.2.3" and its numbers.
struct Version {
  const char* text;
  int major_number;
  int minor_number;
  int patch_number;
};
Version GetVersion();

}  // namespace sma::base
