// SPDX-License-Identifier: Apache-2.0

//! Connects to a vhost-user-blk socket through the front end of the crate `vhost`, and uses the disk: once with a split
//! virtqueue and, where it is offered, once with a packed one. Ends with 0 when everything was as it has to be.
//!
//! usage: vhost-user-peer SOCKET ID PACKED
//! ID: what the disk answers to VIRTIO_BLK_T_GET_ID; PACKED: "packed" or "split", whether packed virtqueues are offered.

mod ring;

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

use ring::{Buffer, PackedRing, Ring, SplitRing};
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight, VhostUserProtocolFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion,
};
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

const F_FLUSH: u64 = 1 << 9;
const F_PROTOCOL: u64 = 1 << 30;
const F_VERSION_1: u64 = 1 << 32;
const F_RING_PACKED: u64 = 1 << 34;

const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const ID_BYTES: u32 = 20;
const SECTOR_BYTES: u64 = 512;
/// Length of the used part of the device's configuration space: capacity in sectors, 64 bits.
const CONFIG_BYTES: u32 = 8;

/// The guest's memory: two regions, so that addresses are not plain offsets.
const LOW: u64 = 0x10_0000;
const HIGH: u64 = 0x1_0000_0000;
const REGION_BYTES: u64 = 4 << 20;
/// In the high region.
const HEADER: u64 = HIGH;
const STATUS: u64 = HIGH + 64;
const DATA: u64 = HIGH + 0x1_0000;
const DATA_BYTES: u32 = 64 << 10;

const ANSWER_TIMEOUT_MS: i32 = 10_000;

struct Disk {
    memory: GuestMemoryMmap,
    ring: Box<dyn Ring>,
    kick: EventFd,
    call: EventFd,
}

impl Disk {
    /// Runs one request with `data` between header and status; returns how many bytes the device wrote.
    fn request(&mut self, kind: u32, sector: u64, data: Option<(u32, bool)>) -> u32 {
        self.memory.write_obj(kind, GuestAddress(HEADER)).unwrap();
        self.memory.write_obj(0u32, GuestAddress(HEADER + 4)).unwrap();
        self.memory.write_obj(sector, GuestAddress(HEADER + 8)).unwrap();
        self.memory.write_obj(0xffu8, GuestAddress(STATUS)).unwrap();
        let mut chain = vec![Buffer { address: HEADER, size: 16, writable: false }];
        if let Some((size, writable)) = data {
            // In two parts, because the driver may choose the framing.
            let half = size / 2;
            chain.push(Buffer { address: DATA, size: half, writable });
            chain.push(Buffer { address: DATA + u64::from(half), size: size - half, writable });
        }
        chain.push(Buffer { address: STATUS, size: 1, writable: true });
        self.ring.submit(&self.memory, &chain);
        self.kick.write(1).unwrap();
        let written = loop {
            if let Some(written) = self.ring.answer(&self.memory) {
                break written;
            }
            self.wait_for_call();
        };
        let status: u8 = self.memory.read_obj(GuestAddress(STATUS)).unwrap();
        assert_eq!(status, 0, "request {kind} at sector {sector}");
        written
    }

    fn wait_for_call(&self) {
        let mut waited = libc::pollfd { fd: self.call.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let ready = unsafe { libc::poll(&mut waited, 1, ANSWER_TIMEOUT_MS) };
        assert_eq!(ready, 1, "no answer in {ANSWER_TIMEOUT_MS} ms");
        self.call.read().unwrap();
    }

    fn check(&mut self, capacity: u64, seed: u8, id: &str) {
        let sectors = u64::from(DATA_BYTES) / SECTOR_BYTES;
        // More requests than the ring has descriptors, the last one at the disk's end.
        let places: Vec<u64> =
            (0..40).map(|i| i * 3 * sectors).chain([capacity - sectors]).collect();
        for (i, &sector) in places.iter().enumerate() {
            let data = pattern(seed.wrapping_add(i as u8));
            self.memory.write_slice(&data, GuestAddress(DATA)).unwrap();
            assert_eq!(self.request(T_OUT, sector, Some((DATA_BYTES, false))), 1);
        }
        self.request(T_FLUSH, 0, None);
        for (i, &sector) in places.iter().enumerate() {
            let mut read = vec![0u8; DATA_BYTES as usize];
            self.memory.write_slice(&read, GuestAddress(DATA)).unwrap();
            assert_eq!(self.request(T_IN, sector, Some((DATA_BYTES, true))), DATA_BYTES + 1);
            self.memory.read_slice(&mut read, GuestAddress(DATA)).unwrap();
            assert!(read == pattern(seed.wrapping_add(i as u8)), "sector {sector} reads other data");
        }
        assert_eq!(self.request(T_GET_ID, 0, Some((ID_BYTES, true))), ID_BYTES + 1);
        let mut read = [0u8; ID_BYTES as usize];
        self.memory.read_slice(&mut read, GuestAddress(DATA)).unwrap();
        assert_eq!(String::from_utf8_lossy(&read), id);
    }
}

fn pattern(seed: u8) -> Vec<u8> {
    (0..DATA_BYTES).map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed).collect()
}

fn make_memory() -> GuestMemoryMmap {
    let ranges: Vec<_> = [LOW, HIGH]
        .iter()
        .map(|&address| {
            let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC) };
            assert!(fd >= 0, "memfd_create");
            let file = unsafe { File::from_raw_fd(fd) };
            file.set_len(REGION_BYTES).unwrap();
            (GuestAddress(address), REGION_BYTES as usize, Some(FileOffset::new(file, 0)))
        })
        .collect();
    GuestMemoryMmap::from_ranges_with_files(ranges).unwrap()
}

fn user_address(memory: &GuestMemoryMmap, address: u64) -> u64 {
    memory.get_host_address(GuestAddress(address)).unwrap() as u64
}

/// Negotiates, starts a vring with a ring of one layout, uses the disk, and stops the vring.
fn use_disk(socket: &str, id: &str, packed: bool, packed_offered: bool) {
    let mut front_end = Frontend::connect(socket, 1).unwrap();
    let offered = front_end.get_features().unwrap();
    assert_eq!(offered & F_RING_PACKED != 0, packed_offered, "VIRTIO_F_RING_PACKED");
    let mut features = F_VERSION_1 | F_FLUSH | F_PROTOCOL;
    if packed {
        features |= F_RING_PACKED;
    }
    assert_eq!(offered & features, features, "features {offered:#x}");
    front_end.set_owner().unwrap();
    front_end.set_features(features).unwrap();
    let protocol = VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::INFLIGHT_SHMFD;
    assert!(front_end.get_protocol_features().unwrap().contains(protocol));
    front_end.set_protocol_features(protocol).unwrap();
    // From here on every message is acknowledged, so that a refusal is detected.
    front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    assert!(front_end.get_queue_num().unwrap() >= 1);
    let (_, config) = front_end
        .get_config(0, CONFIG_BYTES, VhostUserConfigFlags::empty(), &[0; CONFIG_BYTES as usize])
        .unwrap();
    let capacity = u64::from_le_bytes(config.try_into().unwrap());

    let memory = make_memory();
    let regions: Vec<_> = memory
        .iter()
        .map(|region| VhostUserMemoryRegionInfo::from_guest_region(region).unwrap())
        .collect();
    assert_eq!(memory.iter().map(|region| region.len()).sum::<u64>(), 2 * REGION_BYTES);
    front_end.set_mem_table(&regions).unwrap();
    let ring: Box<dyn Ring> = if packed {
        assert!(PackedRing::BYTES <= REGION_BYTES);
        Box::new(PackedRing::new(LOW, 21))
    } else {
        assert!(SplitRing::BYTES <= REGION_BYTES);
        Box::new(SplitRing::new(LOW, 16))
    };
    let (inflight, file) =
        front_end.get_inflight_fd(&VhostUserInflight::new(0, 0, 1, ring.size())).unwrap();
    front_end.set_inflight_fd(&inflight, file.as_raw_fd()).unwrap();

    let (kick, call) = (EventFd::new(EFD_NONBLOCK).unwrap(), EventFd::new(EFD_NONBLOCK).unwrap());
    let parts = ring.parts();
    front_end.set_vring_num(0, ring.size()).unwrap();
    front_end
        .set_vring_addr(
            0,
            &VringConfigData {
                queue_max_size: ring.size(),
                queue_size: ring.size(),
                flags: 0,
                desc_table_addr: user_address(&memory, parts.descriptors),
                used_ring_addr: user_address(&memory, parts.used),
                avail_ring_addr: user_address(&memory, parts.available),
                log_addr: None,
            },
        )
        .unwrap();
    front_end.set_vring_base(0, ring.first_base()).unwrap();
    front_end.set_vring_call(0, &call).unwrap();
    front_end.set_vring_kick(0, &kick).unwrap();
    front_end.set_vring_enable(0, true).unwrap();

    let mut disk = Disk { memory, ring, kick, call };
    disk.check(capacity, if packed { 100 } else { 0 }, id);
    assert_eq!(front_end.get_vring_base(0).unwrap(), disk.ring.base(), "GET_VRING_BASE");
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, socket, id, offered] = arguments.as_slice() else {
        panic!("usage: vhost-user-peer SOCKET ID packed|split");
    };
    let offered = offered == "packed";
    use_disk(socket, id, false, offered);
    if offered {
        use_disk(socket, id, true, offered);
    }
    println!("the disk is as it has to be");
}
