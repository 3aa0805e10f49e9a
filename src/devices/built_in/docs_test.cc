// SPDX-License-Identifier: Apache-2.0

// Tests that docs/configuration.md matches the configuration parser.

#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <sstream>
#include <string>

#include "agent/config/parse.h"
#include "devices/built_in/built_in.h"

namespace sma::devices {
namespace {

std::string ReadDocs() {
  std::ifstream file(SMA_SOURCE_DIR "/docs/configuration.md");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(ConfigurationDocs, EveryExampleIsAccepted) {
  const std::string docs = ReadDocs();
  const std::string kBegin = "```yaml\n";
  int examples = 0;
  for (size_t at = docs.find(kBegin); at != std::string::npos; at = docs.find(kBegin, at)) {
    at += kBegin.size();
    std::string example = docs.substr(at, docs.find("```", at) - at);
    absl::StatusOr<config::Config> parsed =
        config::Parse(example, "docs", {}, "", ConfigurationTypes());
    EXPECT_TRUE(parsed.ok()) << example << parsed.status();
    ++examples;
  }
  EXPECT_GE(examples, 5);
}

TEST(ConfigurationDocs, EveryKeyIsDescribed) {
  const std::string docs = ReadDocs();
  // The error for an unknown key lists all keys that the parser knows.
  absl::StatusOr<config::Config> refused = config::Parse(
      "x: 1\ntls: {x: 1, cert: a, key: b}\nembedded: {x: 1}\nmetrics: {x: 1}\ncrypto: {name: a, x: "
      "1}\nsealing_key: {x: 1}\n"
      "devices: [{name: vhost_blk, params: {x: 1, buses: [{name: a, x: 1}]}}]\n",
      "docs", {}, "", ConfigurationTypes());
  const std::string message(refused.status().message());
  std::regex known("'([a-z._\\[\\]0-9]*)' \\(known: ([^)]*)\\)");
  int keys = 0;
  for (std::sregex_iterator list(message.begin(), message.end(), known), end; list != end; ++list) {
    std::string prefix = list->str(1);
    prefix.resize(prefix.rfind('.') == std::string::npos ? 0 : prefix.rfind('.') + 1);
    if (prefix.find('[') != std::string::npos) prefix.clear();
    std::istringstream names(list->str(2));
    for (std::string name; names >> name; ++keys) {
      if (name.back() == ',') name.pop_back();
      std::string full = prefix + name;
      bool described = docs.find('`' + full + '`') != std::string::npos ||
                       docs.find('`' + full + '.') != std::string::npos;
      EXPECT_TRUE(described) << full;
    }
  }
  EXPECT_GE(keys, 35);
}

}  // namespace
}  // namespace sma::devices
