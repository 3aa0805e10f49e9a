#include <iostream>

#include "cli/app.h"

int main(int argc, char** argv) {
  return sma::cli::Run(argc, argv, {std::cin, std::cout, std::cerr});
}
