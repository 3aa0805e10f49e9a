// SPDX-License-Identifier: Apache-2.0

#include "sma/run.h"

int main(int argc, char** argv) { return sma::apps::RunAgent(argc, argv); }
