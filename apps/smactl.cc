// SPDX-License-Identifier: Apache-2.0

#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string_view>

#include "cli/app.h"

namespace {

// Uses colours only on a terminal that supports them, and only if NO_COLOR is not set
// (no-color.org).
bool UseColour() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) == 1 && (no_color == nullptr || *no_color == '\0') &&
         terminal != nullptr && std::string_view(terminal) != "dumb";
}

}  // namespace

int main(int argc, char** argv) {
  return sma::cli::Run(argc, argv, {std::cin, std::cout, std::cerr, UseColour()});
}
