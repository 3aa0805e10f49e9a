// SPDX-License-Identifier: Apache-2.0

#include "devices/vhost_blk/type.h"

#include <gmock/gmock.h>

#include "devices/pci_common/params_fixture.h"

namespace sma::vhost_blk {
namespace {

absl::StatusOr<Params> Parse(const char* params) {
  return pci_common::ParseParams(Type().config, &ReadParams, params);
}

TEST(Params, HaveOwnAndCommonPciParameters) {
  EXPECT_FALSE(Parse("{}")->packed_ring);
  EXPECT_TRUE(Parse("{packed_ring: true}")->packed_ring);
  EXPECT_EQ(Parse("{sock_path: /run/a}")->pci.sock_path, "/run/a");
  for (const char* bad : {"{packed_ring: some}", "{interrupts: msi}"}) {
    EXPECT_THAT(std::string(Parse(bad).status().message()), testing::StartsWith("sma.yaml:4: "));
  }
}

}  // namespace
}  // namespace sma::vhost_blk
