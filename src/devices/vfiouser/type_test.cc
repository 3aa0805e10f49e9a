// SPDX-License-Identifier: Apache-2.0

#include "devices/vfiouser/type.h"

#include <gmock/gmock.h>

#include "devices/pci_common/params_fixture.h"

namespace sma::vfiouser {
namespace {

absl::StatusOr<Params> Parse(const char* params) {
  return pci_common::ParseParams(Type().config, &ReadParams, params);
}

TEST(Params, HaveOwnAndCommonPciParameters) {
  EXPECT_FALSE(Parse("{}")->msix);
  EXPECT_TRUE(Parse("{interrupts: msix}")->msix);
  EXPECT_EQ(Parse("{sock_path: /run/a}")->pci.sock_path, "/run/a");
  for (const char* bad : {"{interrupts: intx}", "{packed_ring: true}"}) {
    EXPECT_THAT(std::string(Parse(bad).status().message()), testing::StartsWith("sma.yaml:4: "));
  }
}

}  // namespace
}  // namespace sma::vfiouser
