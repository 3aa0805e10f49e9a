#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string_view>

#include "cli/app.h"

namespace {

// Colours are for a terminal that has them, and for who has not asked for none (no-color.org).
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
