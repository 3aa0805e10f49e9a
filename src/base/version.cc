// SPDX-License-Identifier: Apache-2.0

#include "base/version.h"

namespace sma::base {

Version GetVersion() {
  return {SMA_VERSION, SMA_VERSION_MAJOR, SMA_VERSION_MINOR, SMA_VERSION_PATCH};
}

}  // namespace sma::base
