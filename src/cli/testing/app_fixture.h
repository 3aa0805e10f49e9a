// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/uuid.h"
#include "cli/app.h"
#include "cli/testing/fake_agent.h"

namespace sma::cli {

inline constexpr char kVolume[] = "2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11";
inline constexpr uint64_t kKeep = std::numeric_limits<uint64_t>::max();

inline std::string VolumeId() { return base::Uuid::Parse(kVolume)->ToBytes(); }

/// Returns true if `message` equals `text`, which is in protobuf's text format.
template <typename T>
testing::AssertionResult Equals(const T& message, const std::string& text) {
  T expected;
  if (!google::protobuf::TextFormat::ParseFromString(text, &expected)) {
    return testing::AssertionFailure() << "bad text format";
  }
  std::string difference;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&difference);
  if (differencer.Compare(expected, message)) return testing::AssertionSuccess();
  return testing::AssertionFailure() << difference;
}

/// Parses a message from protobuf's text format.
template <typename T>
T Parse(const std::string& text) {
  T message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

/// Runs smactl in this process with its own streams and a fake agent.
class AppTest : public testing::Test {
 protected:
  AppTest() {
    dir_ = std::filesystem::temp_directory_path() / ("cli_test." + std::to_string(::getpid()));
    std::filesystem::create_directory(dir_);
    address_ = "unix:" + (dir_ / "agent.sock").string();
    agent_ = std::make_unique<FakeAgent>(address_);
  }
  ~AppTest() override {
    agent_.reset();
    std::filesystem::remove_all(dir_);
  }

  // Runs smactl and returns its exit status; `out_` and `err_` have its output.
  int Smactl(std::vector<std::string> arguments, const std::string& input = "") {
    std::vector<const char*> argv = {"smactl", "--address", address_.c_str()};
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    return RunWith(argv, input);
  }

  int RunWith(const std::vector<const char*>& argv, const std::string& input = "") {
    std::istringstream in(input);
    std::ostringstream out, err;
    const int code =
        cli::Run(static_cast<int>(argv.size()), argv.data(), {in, out, err, use_colour_});
    out_ = out.str();
    err_ = err.str();
    return code;
  }

  std::string WriteFile(const std::string& name, const std::string& content) {
    const std::string path = dir_ / name;
    std::ofstream(path) << content;
    return path;
  }

  std::filesystem::path dir_;
  std::string address_;
  std::unique_ptr<FakeAgent> agent_;
  std::string out_, err_;
  bool use_colour_ = false;
};

}  // namespace sma::cli
