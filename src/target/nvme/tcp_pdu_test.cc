#include "target/nvme/tcp_pdu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>

namespace sma::target::nvme::tcp {
namespace {

Agreement Agreed(bool header_digest = false, bool data_digest = false) {
  return {.initialized = true,
          .header_digest = header_digest,
          .data_digest = data_digest,
          .maxh2cdata = 131072,
          .max_in_capsule = 4096};
}

void ExpectFault(const CommonHeader& header, bool from_host, const Agreement& agreement,
                 FatalError fes, uint32_t fei = 0) {
  Layout layout;
  Fault fault = CheckHeader(header, from_host, agreement, layout);
  EXPECT_EQ(fault.fes, fes);
  EXPECT_EQ(fault.fei, fei);
}

TEST(CheckHeaderTest, AcceptsWhatMakeHeaderMakes) {
  for (bool header_digest : {false, true}) {
    for (bool data_digest : {false, true}) {
      for (uint8_t alignment : {0, 7, 31}) {
        Agreement agreement = Agreed(header_digest, data_digest);
        agreement.cpda = agreement.hpda = alignment;
        for (PduType type : {PduType::kCapsuleCmd, PduType::kH2cData, PduType::kC2hData}) {
          for (uint32_t data_size : {0u, 4u, 4096u}) {
            Layout made, read;
            CommonHeader header = MakeHeader(type, agreement, data_size, &made);
            bool from_host = type != PduType::kC2hData;
            ASSERT_FALSE(CheckHeader(header, from_host, agreement, read));
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

TEST(CheckHeaderTest, InitializationComesFirstAndOnce) {
  Agreement fresh;
  Layout layout;
  EXPECT_FALSE(CheckHeader(IcReq().header, true, fresh, layout));
  EXPECT_EQ(layout.size, 128u);
  EXPECT_FALSE(CheckHeader(IcResp().header, false, fresh, layout));
  ExpectFault(CapsuleCmd().header, true, fresh, FatalError::kSequence);
  ExpectFault(IcReq().header, true, Agreed(), FatalError::kSequence);
}

TEST(CheckHeaderTest, OneDirectionOnly) {
  ExpectFault(CapsuleResp().header, true, Agreed(), FatalError::kInvalidHeaderField, 0);
  ExpectFault(CapsuleCmd().header, false, Agreed(), FatalError::kInvalidHeaderField, 0);
  ExpectFault({static_cast<PduType>(8), 0, 24, 0, 24}, true, Agreed(),
              FatalError::kInvalidHeaderField, 0);
  ExpectFault({static_cast<PduType>(255), 0, 24, 0, 24}, false, Agreed(),
              FatalError::kInvalidHeaderField, 0);
}

TEST(CheckHeaderTest, FieldsOutOfPlace) {
  ExpectFault({PduType::kCapsuleCmd, 0, 71, 0, 72}, true, Agreed(), FatalError::kInvalidHeaderField,
              2);
  ExpectFault({PduType::kCapsuleCmd, 0, 72, 0, 71}, true, Agreed(), FatalError::kInvalidHeaderField,
              4);
  ExpectFault({PduType::kCapsuleCmd, 0, 72, 71, 4168}, true, Agreed(),
              FatalError::kInvalidHeaderField, 3);
  ExpectFault({PduType::kCapsuleCmd, 0, 72, 74, 4170}, true, Agreed(),
              FatalError::kInvalidHeaderField, 3);
  ExpectFault({PduType::kCapsuleCmd, 0, 72, 76, 74}, true, Agreed(),
              FatalError::kInvalidHeaderField, 4);
  ExpectFault({PduType::kR2t, 0, 24, 24, 28}, false, Agreed(), FatalError::kInvalidHeaderField, 4);
  ExpectFault({PduType::kH2cData, 0, 24, 24, 0xffffffff}, true, Agreed(),
              FatalError::kDataLimitExceeded);
  ExpectFault({PduType::kCapsuleCmd, 0, 72, 72, 72 + 4100}, true, Agreed(),
              FatalError::kDataLimitExceeded);
}

TEST(CheckHeaderTest, DigestFlagsMustBeAsAgreed) {
  ExpectFault({PduType::kCapsuleCmd, kFlagHeaderDigest, 72, 0, 76}, true, Agreed(),
              FatalError::kInvalidHeaderField, 1);
  ExpectFault({PduType::kCapsuleCmd, 0, 72, 0, 72}, true, Agreed(true),
              FatalError::kInvalidHeaderField, 1);
  ExpectFault({PduType::kH2cData, kFlagDataDigest, 24, 24, 32}, true, Agreed(),
              FatalError::kInvalidHeaderField, 1);
  ExpectFault({PduType::kH2cData, 0, 24, 24, 32}, true, Agreed(false, true),
              FatalError::kInvalidHeaderField, 1);
  // Only a digest where data should be.
  ExpectFault({PduType::kH2cData, kFlagDataDigest, 24, 24, 28}, true, Agreed(false, true),
              FatalError::kInvalidHeaderField, 4);
}

TEST(CheckHeaderTest, TermReqNeedsNoAgreement) {
  Layout layout;
  CommonHeader header{PduType::kH2cTermReq, 0, 24, 0, 96};
  EXPECT_FALSE(CheckHeader(header, true, Agreement(), layout));
  EXPECT_FALSE(CheckHeader(header, true, Agreed(true, true), layout));
  EXPECT_EQ(layout.data_size, 72u);
  header.plen = 153;
  ExpectFault(header, true, Agreed(), FatalError::kInvalidHeaderField, 4);
  header.plen = 23;
  ExpectFault(header, true, Agreed(), FatalError::kInvalidHeaderField, 4);
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

TEST(TermReqTest, CarriesTheCulpritCutToItsLimit) {
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
}  // namespace sma::target::nvme::tcp
