// SPDX-License-Identifier: Apache-2.0

#include "sma/options.h"

#include <gtest/gtest.h>

#include <vector>

namespace sma::apps {
namespace {

ParsedAgentOptions Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "sma");
  return ParseAgentOptions(static_cast<int>(arguments.size()), arguments.data());
}

TEST(AgentOptions, NothingGivenLeavesAllToTheFile) {
  ParsedAgentOptions parsed = Parse({});
  ASSERT_TRUE(parsed.options);
  EXPECT_EQ(parsed.options->config_path, "");
  EXPECT_FALSE(parsed.options->flags.address);
  EXPECT_FALSE(parsed.options->flags.port);
  EXPECT_FALSE(parsed.options->flags.socket);
  EXPECT_FALSE(parsed.options->flags.state_dir);
  EXPECT_FALSE(parsed.options->flags.embedded);
  EXPECT_FALSE(parsed.options->check_config);
}

TEST(AgentOptions, ShortAndLongFormsOfTheReference) {
  for (const auto& arguments :
       {std::vector<const char*>{"-c", "f", "-a", "::1", "-p", "0", "-s", "/s"},
        std::vector<const char*>{"--config", "f", "--address", "::1", "--port", "0", "--socket",
                                 "/s"}}) {
    ParsedAgentOptions parsed = Parse(arguments);
    ASSERT_TRUE(parsed.options);
    EXPECT_EQ(parsed.options->config_path, "f");
    EXPECT_EQ(parsed.options->flags.address, "::1");
    EXPECT_EQ(parsed.options->flags.port, 0);
    EXPECT_EQ(parsed.options->flags.socket, "/s");
  }
}

TEST(AgentOptions, OurOwnFlags) {
  ParsedAgentOptions parsed =
      Parse({"--state-dir", "/d", "--embedded", "--embedded-stop", "--check-config"});
  ASSERT_TRUE(parsed.options);
  EXPECT_EQ(parsed.options->flags.state_dir, "/d");
  EXPECT_TRUE(parsed.options->flags.embedded);
  EXPECT_TRUE(parsed.options->flags.embedded_stop);
  EXPECT_TRUE(parsed.options->check_config);
}

TEST(AgentOptions, MistakesEndWithAStatusOfTheirOwn) {
  for (const auto& arguments :
       {std::vector<const char*>{"--prot", "1"}, std::vector<const char*>{"-p", "x"},
        std::vector<const char*>{"-p", "65536"}, std::vector<const char*>{"-p", "-1"},
        std::vector<const char*>{"-c"}, std::vector<const char*>{"extra"}}) {
    ParsedAgentOptions parsed = Parse(arguments);
    EXPECT_FALSE(parsed.options) << arguments.front();
    EXPECT_EQ(parsed.exit_status, 2) << arguments.front();
  }
  ParsedAgentOptions help = Parse({"--help"});
  EXPECT_FALSE(help.options);
  EXPECT_EQ(help.exit_status, 0);
  EXPECT_EQ(Parse({"--version"}).exit_status, 0);
}

}  // namespace
}  // namespace sma::apps
