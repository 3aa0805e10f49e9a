// SPDX-License-Identifier: Apache-2.0

#include "sma_target/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sma::apps {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Optional;

ParsedOptions Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "sma-target");
  return ParseTargetOptions(static_cast<int>(arguments.size()), arguments.data());
}

TEST(ParseCoresTest, CountsMasksAndLists) {
  EXPECT_THAT(ParseCores("2", false), Optional(ElementsAre(-1, -1)));
  EXPECT_THAT(ParseCores("3", true), Optional(ElementsAre(0, 1)));
  EXPECT_THAT(ParseCores("0x11", false), Optional(ElementsAre(0, 4)));
  EXPECT_THAT(ParseCores("[0,2-3]", false), Optional(ElementsAre(0, 2, 3)));
  EXPECT_THAT(ParseCores("[1]", true), Optional(ElementsAre(1)));
  for (const char* bad : {"", "0", "-1", "x", "0x", "0xg", "[]", "[1-0]", "[a]", "[0", "[5000]"}) {
    EXPECT_EQ(ParseCores(bad, false), std::nullopt) << bad;
  }
  EXPECT_EQ(ParseCores("0", true), std::nullopt);
}

TEST(TargetOptionsTest, Defaults) {
  ParsedOptions parsed = Parse({});
  ASSERT_TRUE(parsed.options);
  EXPECT_EQ(parsed.options->rpc_socket, "/var/tmp/spdk.sock");
  EXPECT_THAT(parsed.options->cores, ElementsAre(-1));
  EXPECT_TRUE(parsed.options->io_uring);
  EXPECT_TRUE(parsed.options->rpc_server);
  EXPECT_THAT(parsed.options->ignored, IsEmpty());
}

TEST(TargetOptionsTest, OptionsOfSpdkTgtAreAccepted) {
  ParsedOptions parsed =
      Parse({"-r", "/tmp/s", "-m", "0x3", "-s", "512", "--no-huge", "--wait-for-rpc", "-S",
             "/tmp/v", "--iova-mode=va", "-e", "all", "--json", "c.json", "--rpcs-allowed", "a,b"});
  ASSERT_TRUE(parsed.options);
  EXPECT_EQ(parsed.options->rpc_socket, "/tmp/s");
  EXPECT_EQ(parsed.options->config_path, "c.json");
  EXPECT_EQ(parsed.options->vhost_dir, "/tmp/v");
  EXPECT_TRUE(parsed.options->wait_for_rpc);
  EXPECT_THAT(parsed.options->cores, ElementsAre(0, 1));
  EXPECT_THAT(parsed.options->rpcs_allowed, ElementsAre("a", "b"));
  EXPECT_THAT(parsed.options->ignored,
              testing::UnorderedElementsAre("-s,--mem-size", "--no-huge", "--iova-mode",
                                            "-e,--tpoint-group"));
}

TEST(TargetOptionsTest, MistakesExitTheProgram) {
  EXPECT_FALSE(Parse({"--bogus"}).options);
  EXPECT_NE(Parse({"--bogus"}).exit_status, 0);
  EXPECT_NE(Parse({"--cores", "zero"}).exit_status, 0);
  EXPECT_NE(Parse({"--poll-us", "-1"}).exit_status, 0);
  EXPECT_EQ(Parse({"--help"}).exit_status, 0);
}

}  // namespace
}  // namespace sma::apps
