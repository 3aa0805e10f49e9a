// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "sma.pb.h"

namespace sma::volume {

/// Parses protobuf's text format.
inline VolumeParameters ParamsFrom(const std::string& text) {
  VolumeParameters params;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &params)) << text;
  return params;
}

/// Returns the same parameters in the form of ShortDebugString.
inline std::string OneLine(const std::string& text) { return ParamsFrom(text).ShortDebugString(); }

}  // namespace sma::volume
