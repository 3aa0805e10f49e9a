#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <iostream>

#include "worlds/world.h"

namespace sma::worlds {
namespace {

std::string Variable(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value == nullptr ? fallback : value;
}

// Runs the steps in SMA_WORLDS_SCRIPT, for whoever looks into one.
TEST(Worlds, Script) {
  const std::string script = Variable("SMA_WORLDS_SCRIPT", "");
  if (script.empty()) GTEST_SKIP() << "SMA_WORLDS_SCRIPT is not set";
  WorldOptions options;
  options.has_machine = Variable("SMA_WORLDS_MACHINE", "") != "";
  options.sim.discovery_lag = std::stoi(Variable("SMA_WORLDS_LAG", "0"));
  spdlog::set_level(spdlog::level::info);
  World world(options);
  world.Run(script);
  world.Finish();
  for (const std::string& line : world.target().log()) std::cout << "  " << line << "\n";
  for (const std::string& problem : world.problems()) ADD_FAILURE() << problem;
}

}  // namespace
}  // namespace sma::worlds
