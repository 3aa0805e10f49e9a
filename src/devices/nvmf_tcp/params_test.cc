// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_tcp/params.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sma::nvmf_tcp {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

DeviceParameters Valid() {
  DeviceParameters params;
  params.set_subnqn("nqn.2016-06.io.spdk:cnode0");
  params.set_adrfam("ipv4");
  params.set_traddr("127.0.0.1");
  params.set_trsvcid("4420");
  return params;
}

TEST(CanonicalTest, OneFormForEachMeaning) {
  DeviceParameters params = Valid();
  params.set_adrfam("IPv6");
  params.set_traddr("0:0::0001");
  params.set_trsvcid("04420");
  params.set_allow_any_host(true);
  for (const char* host :
       {"nqn.2016-06.io.spdk:b", "nqn.2016-06.io.spdk:a", "nqn.2016-06.io.spdk:b"}) {
    params.add_hosts(host);
  }
  auto canonical = Canonical(params);
  ASSERT_TRUE(canonical.ok()) << canonical.status();
  EXPECT_EQ(canonical->adrfam(), "ipv6");
  EXPECT_EQ(canonical->traddr(), "::1");
  EXPECT_EQ(canonical->trsvcid(), "4420");
  EXPECT_TRUE(canonical->allow_any_host());
  EXPECT_THAT(canonical->hosts(), ElementsAre("nqn.2016-06.io.spdk:a", "nqn.2016-06.io.spdk:b"));
  EXPECT_EQ(Canonical(*canonical)->SerializeAsString(), canonical->SerializeAsString());
}

TEST(CanonicalTest, AddressFamilyIsOptional) {
  DeviceParameters params = Valid();
  params.clear_adrfam();
  EXPECT_EQ(Canonical(params)->adrfam(), "ipv4");
  params.set_traddr("fe80::1%eth0");
  EXPECT_EQ(Canonical(params)->adrfam(), "ipv6");
}

TEST(CanonicalTest, RefusesWhatIsNotValid) {
  struct Case {
    const char* field;
    std::vector<std::string> values;
  };
  const std::vector<Case> cases = {
      {"subnqn",
       {"", "bad", "nqn.2014-08.org.nvmexpress.discovery", "nqn.2016-06.io.spdk",
        "nqn.2016-06.io.spdk:", "nqn.2016-06.io.spdk:" + std::string(300, 'x'), "../x"}},
      {"adrfam", {"ipv6", "ib", "ipv"}},
      {"traddr", {"", "localhost", "1.2.3", "::1"}},
      {"trsvcid", {"", "0", "65536", "-1", "4420x", " 4420", "http"}},
      {"hosts", {"", "host"}},
  };
  for (const Case& bad : cases) {
    for (const std::string& value : bad.values) {
      DeviceParameters params = Valid();
      const auto* field = params.GetDescriptor()->FindFieldByName(bad.field);
      if (field->is_repeated()) {
        params.GetReflection()->AddString(&params, field, value);
      } else {
        params.GetReflection()->SetString(&params, field, value);
      }
      absl::Status status = Canonical(params).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.field << " " << value;
      EXPECT_THAT(std::string(status.message()), HasSubstr("nvmf_tcp."));
    }
  }
}

// Earlier versions accepted a handle such as "nvmf-tcp;nqn.a" because of its prefix.
TEST(HandleTest, Defect10_HandlesHaveAStrictGrammar) {
  EXPECT_TRUE(IsHandle(HandleOf("nqn.2016-06.io.spdk:cnode0")));
  for (const char* bad :
       {"", "nvmf-tcp", "nvmf-tcp:", "nvmf-tcp;nqn.2016-06.io.spdk:a", "nvmf-tcp:a",
        "Nvmf-tcp:nqn.2016-06.io.spdk:a", "nvmf-tcp:nqn.2014-08.org.nvmexpress.discovery",
        " nvmf-tcp:nqn.2016-06.io.spdk:a", "nvmf-tcp:nqn.2016-06.io.spdk:a\n",
        "nqn.2016-06.io.spdk:a", "nvme:nqn.2016-06.io.spdk:vfiouser-0"}) {
    EXPECT_FALSE(IsHandle(bad)) << bad;
  }
}

}  // namespace
}  // namespace sma::nvmf_tcp
