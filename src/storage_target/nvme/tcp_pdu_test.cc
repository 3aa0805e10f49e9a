// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvme/tcp_pdu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>

namespace sma::storage_target::nvme::tcp {
namespace {

NegotiatedParams Negotiated(bool header_digest = false, bool data_digest = false) {
  return {.initialized = true,
          .header_digest = header_digest,
          .data_digest = data_digest,
          .maxh2cdata = 131072,
          .max_in_capsule = 4096};
}

void ExpectFault(const CommonHeader& header, bool from_host, const NegotiatedParams& negotiated,
                 FatalError fes, uint32_t fei = 0) {
  Layout layout;
  Fault fault = CheckHeader(header, from_host, negotiated, layout);
  EXPECT_EQ(fault.fes, fes);
  EXPECT_EQ(fault.fei, fei);
}

TEST(CheckHeaderTest, AcceptsHeadersFromMakeHeader) {
  for (bool header_digest : {false, true}) {
    for (bool data_digest : {false, true}) {
      for (uint8_t alignment : {0, 7, 31}) {
        NegotiatedParams negotiated = Negotiated(header_digest, data_digest);
        negotiated.cpda = negotiated.hpda = alignment;
        for (PduType type : {PduType::kCapsuleCmd, PduType::kH2cData, PduType::kC2hData}) {
          for (uint32_t data_size : {0u, 4u, 4096u}) {
            Layout made, read;
            CommonHeader header = MakeHeader(type, negotiated, data_size, &made);
            bool from_host = type != PduType::kC2hData;
            ASSERT_FALSE(CheckHeader(header, from_host, negotiated, read));
            EXPECT_EQ(made, read);
            EXPECT_EQ(read.data_size, data_size);
            EXPECT_EQ(read.size, header.plen);
            if (data_size > 0) {
              EXPECT_EQ(read.data_offset % ((alignment + 1u) * 4), 0u);
            }
          }
        }
      }
    }
  }
}

TEST(CheckHeaderTest, InitializationIsFirstAndOnlyOnce) {
  NegotiatedParams fresh;
  Layout layout;
  EXPECT_FALSE(CheckHeader(IcReq().header, true, fresh, layout));
  EXPECT_EQ(layout.size, 128u);
  EXPECT_FALSE(CheckHeader(IcResp().header, false, fresh, layout));
  ExpectFault(CapsuleCmd().header, true, fresh, FatalError::kSequence);
  ExpectFault(IcReq().header, true, Negotiated(), FatalError::kSequence);
}

TEST(CheckHeaderTest, RejectsPdusOfTheWrongDirection) {
  ExpectFault(CapsuleResp().header, true, Negotiated(), FatalError::kInvalidHeaderField, 0);
  ExpectFault(CapsuleCmd().header, false, Negotiated(), FatalError::kInvalidHeaderField, 0);
  ExpectFault({static_cast<PduType>(8), 0, 24, 0, 24}, true, Negotiated(),
              FatalError::kInvalidHeaderField, 0);
  ExpectFault({static_cast<PduType>(255), 0, 24, 0, 24}, false, Negotiated(),
              FatalError::kInvalidHeaderField, 0);
}

TEST(CheckHeaderTest, RejectsInvalidFields) {
  ExpectFault({PduType::kCapsuleCmd, 0, 71, 0, 72}, true, Negotiated(),
              FatalError::kInvalidHeaderField, 2);
  ExpectFault({PduType::kCapsuleCmd, 0, 72, 0, 71}, true, Negotiated(),
              FatalError::kInvalidHeaderField, 4);
  ExpectFault({PduType::kCapsuleCmd, 0, 72, 71, 4168}, true, Negotiated(),
              FatalError::kInvalidHeaderField, 3);
  ExpectFault({PduType::kCapsuleCmd, 0, 72, 74, 4170}, true, Negotiated(),
              FatalError::kInvalidHeaderField, 3);
  ExpectFault({PduType::kCapsuleCmd, 0, 72, 76, 74}, true, Negotiated(),
              FatalError::kInvalidHeaderField, 4);
  ExpectFault({PduType::kR2t, 0, 24, 24, 28}, false, Negotiated(), FatalError::kInvalidHeaderField,
              4);
  ExpectFault({PduType::kH2cData, 0, 24, 24, 0xffffffff}, true, Negotiated(),
              FatalError::kDataLimitExceeded);
  ExpectFault({PduType::kCapsuleCmd, 0, 72, 72, 72 + 4100}, true, Negotiated(),
              FatalError::kDataLimitExceeded);
}

TEST(CheckHeaderTest, DigestFlagsMustBeNegotiated) {
  ExpectFault({PduType::kCapsuleCmd, kFlagHeaderDigest, 72, 0, 76}, true, Negotiated(),
              FatalError::kInvalidHeaderField, 1);
  ExpectFault({PduType::kCapsuleCmd, 0, 72, 0, 72}, true, Negotiated(true),
              FatalError::kInvalidHeaderField, 1);
  ExpectFault({PduType::kH2cData, kFlagDataDigest, 24, 24, 32}, true, Negotiated(),
              FatalError::kInvalidHeaderField, 1);
  ExpectFault({PduType::kH2cData, 0, 24, 24, 32}, true, Negotiated(false, true),
              FatalError::kInvalidHeaderField, 1);
  // Tests a data digest without data.
  ExpectFault({PduType::kH2cData, kFlagDataDigest, 24, 24, 28}, true, Negotiated(false, true),
              FatalError::kInvalidHeaderField, 4);
}

TEST(CheckHeaderTest, TermReqNeedsNoNegotiation) {
  Layout layout;
  CommonHeader header{PduType::kH2cTermReq, 0, 24, 0, 96};
  EXPECT_FALSE(CheckHeader(header, true, NegotiatedParams(), layout));
  EXPECT_FALSE(CheckHeader(header, true, Negotiated(true, true), layout));
  EXPECT_EQ(layout.data_size, 72u);
  header.plen = 153;
  ExpectFault(header, true, Negotiated(), FatalError::kInvalidHeaderField, 4);
  header.plen = 23;
  ExpectFault(header, true, Negotiated(), FatalError::kInvalidHeaderField, 4);
}

TEST(IcTest, Fields) {
  IcReq request;
  EXPECT_FALSE(CheckIcReq(request));
  request.hpda = 32;
  EXPECT_EQ(CheckIcReq(request).fei, 10u);
  request = IcReq();
  request.pfv = 1;
  EXPECT_EQ(CheckIcReq(request).fes, FatalError::kUnsupportedParameter);

  IcResp response;
  response.maxh2cdata = 4096;
  EXPECT_FALSE(CheckIcResp(response, 0));
  response.digests = kDigestData;
  EXPECT_FALSE(CheckIcResp(response, kDigestHeader | kDigestData));
  EXPECT_EQ(CheckIcResp(response, kDigestHeader).fei, 11u);
  response.digests = 0;
  for (uint32_t size : {0u, 4092u, 4098u}) {
    response.maxh2cdata = size;
    EXPECT_EQ(CheckIcResp(response, 0).fei, 12u);
  }
}

TEST(TermReqTest, ContainsTheTruncatedInvalidPdu) {
  std::array<std::byte, 200> culprit;
  culprit.fill(std::byte{7});
  std::array<std::byte, kMaxTermReqSize> out{};
  size_t size =
      WriteTermReq(PduType::kC2hTermReq, {FatalError::kHeaderDigest, 0x12345678}, culprit, out);
  EXPECT_EQ(size, kMaxTermReqSize);
  TermReq request;
  std::memcpy(&request, out.data(), sizeof request);
  EXPECT_EQ(request.header.plen, kMaxTermReqSize);
  EXPECT_EQ(request.fei_low, 0x5678);
  EXPECT_EQ(request.fei_high, 0x1234);
  EXPECT_EQ(out[24], std::byte{7});
  EXPECT_EQ(WriteTermReq(PduType::kC2hTermReq, {FatalError::kSequence, 0}, {}, out), 24u);
}

}  // namespace
}  // namespace sma::storage_target::nvme::tcp
