// SPDX-License-Identifier: Apache-2.0

#include "agent/service/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "agent/service/testing/http2_connection.h"
#include "agent/service/testing/server_fixture.h"

namespace sma::service {
namespace {

using testing::HasSubstr;
using testing::Return;

template <typename T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

std::string BioText(BIO* bio) {
  char* data = nullptr;
  long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

/// A key and a certificate in PEM, signed by another identity or self-signed.
class Identity {
 public:
  explicit Identity(const char* name, const Identity* issuer = nullptr)
      : key_(EVP_EC_gen("P-256"), EVP_PKEY_free), certificate_(X509_new(), X509_free) {
    X509* x509 = certificate_.get();
    X509_set_version(x509, X509_VERSION_3);
    static long serial = 0;
    ASN1_INTEGER_set(X509_get_serialNumber(x509), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(x509), -60);
    X509_gmtime_adj(X509_getm_notAfter(x509), 3600);
    X509_set_pubkey(x509, key_.get());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
    const Identity& signer = issuer != nullptr ? *issuer : *this;
    X509_set_issuer_name(x509, X509_get_subject_name(signer.certificate_.get()));
    AddExtension(NID_subject_alt_name, "IP:127.0.0.1");
    AddExtension(NID_basic_constraints, issuer == nullptr ? "critical,CA:TRUE" : "CA:FALSE");
    X509_sign(x509, signer.key_.get(), EVP_sha256());
  }

  std::string cert() const {
    Owned<BIO> bio(BIO_new(BIO_s_mem()), BIO_free_all);
    PEM_write_bio_X509(bio.get(), certificate_.get());
    return BioText(bio.get());
  }

  std::string key() const {
    Owned<BIO> bio(BIO_new(BIO_s_mem()), BIO_free_all);
    PEM_write_bio_PrivateKey(bio.get(), key_.get(), nullptr, nullptr, 0, nullptr, nullptr);
    return BioText(bio.get());
  }

 private:
  void AddExtension(int nid, const char* value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
    X509_add_ext(certificate_.get(), extension, -1);
    X509_EXTENSION_free(extension);
  }

  Owned<EVP_PKEY> key_;
  Owned<X509> certificate_;
};

class TlsTest : public ServerFixture {
 protected:
  TlsTest() {
    std::string name = testing::TempDir() + "sma_tls_XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~TlsTest() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& text) {
    std::string path = folder_ + "/" + name;
    // Replaces the old file with a new one, as certificate managers do.
    std::ofstream(path + ".new") << text;
    std::filesystem::rename(path + ".new", path);
    return path;
  }

  void StartTls(bool mutual) {
    TlsFiles files{Write("cert", server_identity_.cert()), Write("key", server_identity_.key()),
                   mutual ? Write("ca", authority_.cert()) : "", 1};
    GrpcServerOptions options;
    options.tls = files;
    StartServer(options);
    EXPECT_CALL(agent_, DeleteDevice).WillRepeatedly(Return(DeleteDeviceResponse()));
  }

  /// Makes a call as a new client that trusts `authority` and presents `client`'s certificate, if
  /// given.
  grpc::Status CallAs(const Identity& authority, const Identity* client) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = authority.cert();
    if (client != nullptr) {
      options.pem_private_key = client->key();
      options.pem_cert_chain = client->cert();
    }
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // its own connection
    stub_ = StorageManagementAgent::NewStub(grpc::CreateCustomChannel(
        server_->addresses().front(), grpc::SslCredentials(options), arguments));
    return Delete("x");
  }

  const Identity authority_{"authority"};
  const Identity server_identity_{"server", &authority_};
  std::string folder_;
};

TEST_F(TlsTest, ServesTlsAndNothingElse) {
  StartTls(false);
  EXPECT_EQ(Delete("x").error_code(), grpc::StatusCode::UNAVAILABLE) << "without TLS";
  EXPECT_TRUE(CallAs(authority_, nullptr).ok());
  EXPECT_FALSE(CallAs(Identity("another authority"), nullptr).ok());
}

TEST_F(TlsTest, MutualTlsRequiresACertificateOfTheAuthority) {
  StartTls(true);
  Identity client("client", &authority_);
  Identity stranger("stranger");
  EXPECT_TRUE(CallAs(authority_, &client).ok()) << CallAs(authority_, &client).error_message();
  EXPECT_FALSE(CallAs(authority_, &stranger).ok());
  EXPECT_FALSE(CallAs(authority_, nullptr).ok());
}

TEST_F(TlsTest, AnIncompleteHandshakeTimesOut) {
  StartTls(false);
  base::UniqueFd silent = ConnectTo(server_->port());
  base::UniqueFd half = ConnectTo(server_->port());
  ASSERT_TRUE(silent && half);
  // The beginning of a ClientHello (RFC 8446 section 5.1): the header announces a record of 512
  // bytes, of which only 4 are sent.
  const char hello[] = {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, static_cast<char>(0xfc)};
  ASSERT_EQ(send(half.get(), hello, sizeof(hello), 0), static_cast<ssize_t>(sizeof(hello)));
  for (const base::UniqueFd* fd : {&silent, &half}) {
    pollfd ended{fd->get(), POLLIN, 0};
    ASSERT_EQ(poll(&ended, 1, 40'000), 1) << "held for longer; gRPC's default is 120 s";
    char byte = 0;
    EXPECT_LE(recv(fd->get(), &byte, 1, 0), 0);
  }
  EXPECT_TRUE(CallAs(authority_, nullptr).ok());
}

TEST_F(TlsTest, NewFilesAreUsedWithoutARestart) {
  StartTls(false);
  ASSERT_TRUE(CallAs(authority_, nullptr).ok());
  Identity new_authority("new authority");
  Identity new_server("server", &new_authority);
  Write("cert", new_server.cert());
  Write("key", new_server.key());
  auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (!CallAs(new_authority, nullptr).ok() && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE(CallAs(new_authority, nullptr).ok());
}

TEST_F(TlsTest, BadFilesAreRefusedByName) {
  TlsFiles good{Write("cert", server_identity_.cert()), Write("key", server_identity_.key()),
                Write("ca", authority_.cert()), 30};
  std::string other_key = Write("other", Identity("other").key());
  std::string text = Write("text", "hello");
  ASSERT_TRUE(MakeTlsCredentials(good).ok());
  auto refusal = [](const TlsFiles& files) {
    absl::Status status = MakeTlsCredentials(files).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(refusal({folder_ + "/none", good.key, "", 30}), HasSubstr("/none: "));
  EXPECT_THAT(refusal({text, good.key, "", 30}), HasSubstr(text));
  EXPECT_THAT(refusal({good.cert, other_key, "", 30}), HasSubstr(other_key));
  EXPECT_THAT(refusal({good.cert, good.key, text, 30}), HasSubstr(text));
}

}  // namespace
}  // namespace sma::service
