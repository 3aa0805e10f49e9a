// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/vfio_user/doorbells.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "storage_target/nvme/property.h"
#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::nvmf::vfio_user {

using virtio::LoadAcquire;
using virtio::StoreRelaxed;

Doorbells::Doorbells(bool mappable) {
  if (mappable) {
    // The file has the layout of BAR 0, so that the page has the same offset in both.
    base::UniqueFd fd(::memfd_create("doorbells", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    void* page = MAP_FAILED;
    if (fd && ::ftruncate(fd.get(), nvme::kDoorbellOffset + kRegisterBytes) == 0) {
      page = ::mmap(nullptr, kRegisterBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(),
                    nvme::kDoorbellOffset);
    }
    // The file is sealed, so that the client cannot truncate it.
    if (page != MAP_FAILED &&
        ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
      fd_ = std::move(fd);
      registers_ = static_cast<uint32_t*>(page);
      mapped_ = true;
      return;
    }
    if (page != MAP_FAILED) ::munmap(page, kRegisterBytes);
  }
  registers_ = new uint32_t[kRegisterBytes / sizeof(uint32_t)]();
}

Doorbells::~Doorbells() {
  if (mapped_) {
    ::munmap(registers_, kRegisterBytes);
  } else {
    delete[] registers_;
  }
}

void Doorbells::Write(uint32_t index, uint32_t value) { StoreRelaxed(registers_[index], value); }

void Doorbells::Clear() {
  std::memset(registers_, 0, kRegisterBytes);
  SetShadow(nullptr, nullptr);
}

void Doorbells::SetShadow(uint32_t* shadow, uint32_t* event_indices) {
  shadow_ = shadow;
  event_indices_ = event_indices;
}

uint32_t Doorbells::Read(uint32_t index) const {
  return LoadAcquire(UsesShadow(index) ? shadow_[index] : registers_[index]);
}

void Doorbells::SetEvent(uint32_t index, uint32_t value) {
  if (UsesShadow(index)) StoreRelaxed(event_indices_[index], value);
}

void Doorbells::Reset(uint32_t index) {
  Write(index, 0);
  if (!UsesShadow(index)) return;
  StoreRelaxed(shadow_[index], 0u);
  StoreRelaxed(event_indices_[index], 0u);
}

void Doorbells::CopyToShadow(uint32_t index) {
  if (UsesShadow(index)) StoreRelaxed(shadow_[index], LoadAcquire(registers_[index]));
}

}  // namespace sma::storage_target::nvmf::vfio_user
