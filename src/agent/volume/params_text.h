#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "sma.pb.h"

namespace sma::volume {

/// From protobuf's text format, for tests.
inline VolumeParameters ParamsFrom(const std::string& text) {
  VolumeParameters params;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &params)) << text;
  return params;
}

/// The same parameters as ShortDebugString writes them.
inline std::string OneLine(const std::string& text) { return ParamsFrom(text).ShortDebugString(); }

}  // namespace sma::volume
