// SPDX-License-Identifier: Apache-2.0

// Fuzzes the parsers for the answers of a logical unit.

#include "storage_target/bdev_modules/iscsi/lun_info.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sma::storage_target::bdev_iscsi;  // NOLINT(google-build-using-namespace)
  Bytes bytes(data, size);
  LunInfo info;
  if (auto capacity = Capacity::Parse(bytes)) info.capacity = *capacity;
  info.limits = BlockLimits::Parse(bytes);
  info.provisioning = Provisioning::Parse(bytes);
  info.identity = ParseIdentity(bytes);
  bool sound = info.identity.size() <= size && !info.MakeUuid("iqn.a", 0).is_nil();
  return sound ? 0 : -1;
}
