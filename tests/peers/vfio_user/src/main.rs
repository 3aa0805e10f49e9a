// SPDX-License-Identifier: Apache-2.0

//! Drives an NVMe controller of sma-target through the client of the crate `vfio_user`, which other VMMs use: a peer that
//! shares no code with the target. Ends with status 0 when all is as it should be.
//!
//! usage: vfio-user-peer SOCKET

use std::os::fd::RawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use vfio_user::Client;

const BAR0: u32 = 0;
const CONFIG: u32 = 7;
const MSIX: u32 = 2;
const SET_EVENTFD_TRIGGER: u32 = 1 << 2 | 1 << 5;

const RAM_ADDRESS: u64 = 0x10_0000;
const RAM_SIZE: usize = 1 << 20;
const PAGE: usize = 4096;
const ENTRIES: u32 = 32;

const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const ENABLE: u32 = 1 | 6 << 16 | 4 << 20;

/// Shared memory of the simulated guest.
struct Ram {
    fd: RawFd,
    base: *mut u8,
}

impl Ram {
    fn new() -> Ram {
        unsafe {
            let fd = libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0 && libc::ftruncate(fd, RAM_SIZE as i64) == 0);
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let base = libc::mmap(std::ptr::null_mut(), RAM_SIZE, protection, libc::MAP_SHARED, fd, 0);
            assert!(base != libc::MAP_FAILED);
            Ram { fd, base: base.cast() }
        }
    }

    fn page(&self, page: usize) -> u64 {
        RAM_ADDRESS + (page * PAGE) as u64
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= RAM_SIZE);
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(offset), bytes.len()) }
    }

    fn read(&self, offset: usize, size: usize) -> Vec<u8> {
        assert!(offset + size <= RAM_SIZE);
        let mut bytes = vec![0; size];
        unsafe { std::ptr::copy_nonoverlapping(self.base.add(offset), bytes.as_mut_ptr(), size) }
        bytes
    }

    fn dword(&self, offset: usize) -> u32 {
        unsafe { std::ptr::read_volatile(self.base.add(offset).cast()) }
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < until, "{what}: not in time");
        std::thread::yield_now();
    }
}

/// A queue pair whose rings are the pages `sq_page` and `sq_page` + 1.
struct Queue {
    id: u32,
    sq_page: usize,
    tail: u32,
    head: u32,
    phase: u32,
}

struct Host<'a> {
    client: Client,
    ram: &'a Ram,
}

impl Host<'_> {
    fn read32(&mut self, region: u32, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.client.region_read(region, offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    fn write32(&mut self, region: u32, offset: u64, value: u32) {
        self.client.region_write(region, offset, &value.to_le_bytes()).unwrap();
    }

    /// Runs one command; returns its status without the phase.
    fn run(&mut self, queue: &mut Queue, opcode: u8, nsid: u32, prp1: u64, cdw10: u32, cdw11: u32) -> u32 {
        let mut command = [0; 64];
        command[0] = opcode;
        command[2] = queue.tail as u8;
        command[4..8].copy_from_slice(&nsid.to_le_bytes());
        command[24..32].copy_from_slice(&prp1.to_le_bytes());
        command[40..44].copy_from_slice(&cdw10.to_le_bytes());
        command[44..48].copy_from_slice(&cdw11.to_le_bytes());
        self.ram.write(queue.sq_page * PAGE + queue.tail as usize * 64, &command);
        queue.tail = (queue.tail + 1) % ENTRIES;
        self.write32(BAR0, 0x1000 + u64::from(queue.id) * 8, queue.tail);
        let last = (queue.sq_page + 1) * PAGE + queue.head as usize * 16 + 12;
        wait_for("completion", || self.ram.dword(last) >> 16 & 1 == queue.phase);
        let status = self.ram.dword(last) >> 17;
        queue.head = (queue.head + 1) % ENTRIES;
        if queue.head == 0 {
            queue.phase ^= 1;
        }
        self.write32(BAR0, 0x1004 + u64::from(queue.id) * 8, queue.head);
        status
    }

    fn enable(&mut self) -> Queue {
        self.ram.write(0, &[0; 2 * PAGE]);
        self.write32(BAR0, 0x24, (ENTRIES - 1) << 16 | (ENTRIES - 1));
        self.client.region_write(BAR0, 0x28, &self.ram.page(0).to_le_bytes()).unwrap();
        self.client.region_write(BAR0, 0x30, &self.ram.page(1).to_le_bytes()).unwrap();
        self.write32(BAR0, CC, ENABLE);
        wait_for("ready", || self.read32(BAR0, CSTS) == 1);
        Queue { id: 0, sq_page: 0, tail: 0, head: 0, phase: 1 }
    }
}

fn check_io(host: &mut Host, eventfd: RawFd) {
    let mut admin = host.enable();
    let (data, read_back) = (8, 9);
    assert_eq!(host.run(&mut admin, 0x06, 0, host.ram.page(data), 1, 0), 0, "Identify Controller");
    assert_eq!(host.ram.read(data * PAGE + 516, 4), 32u32.to_le_bytes(), "namespaces");

    host.ram.write(2 * PAGE, &[0; 2 * PAGE]);
    let size = (ENTRIES - 1) << 16 | 1;
    assert_eq!(host.run(&mut admin, 0x05, 0, host.ram.page(3), size, 1 << 16 | 3), 0, "Create CQ");
    assert_eq!(host.run(&mut admin, 0x01, 0, host.ram.page(2), size, 1 << 16 | 1), 0, "Create SQ");
    let mut io = Queue { id: 1, sq_page: 2, tail: 0, head: 0, phase: 1 };
    for block in 0..100u32 {
        let bytes: Vec<u8> = (0..PAGE).map(|i| (i as u32 * 7 + block) as u8).collect();
        host.ram.write(data * PAGE, &bytes);
        assert_eq!(host.run(&mut io, 0x01, 1, host.ram.page(data), block, 0), 0, "Write");
        assert_eq!(host.run(&mut io, 0x02, 1, host.ram.page(read_back), block, 0), 0, "Read");
        assert_eq!(host.ram.read(read_back * PAGE, PAGE), bytes, "block {block}");
    }
    assert_ne!(host.run(&mut io, 0x02, 1, 0, 0, 0), 0, "Read to memory that is not there");
    let mut count = 0u64;
    let got = unsafe { libc::read(eventfd, (&raw mut count).cast(), 8) };
    assert!(got == 8 && count > 0, "interrupts");
    assert_eq!(host.run(&mut admin, 0x00, 0, 0, 1, 0), 0, "Delete SQ");
    assert_eq!(host.run(&mut admin, 0x04, 0, 0, 1, 0), 0, "Delete CQ");
}

fn main() {
    let path = std::env::args().nth(1).expect("usage: vfio-user-peer SOCKET");
    let ram = Ram::new();
    let client = Client::new(Path::new(&path)).expect("connect");
    assert_eq!(client.region(BAR0).map(|region| region.size), Some(0x2000));
    let mut host = Host { client, ram: &ram };
    assert_eq!(host.read32(CONFIG, 8) >> 8, 0x01_0802, "class code");
    host.client.dma_map(0, RAM_ADDRESS, RAM_SIZE as u64, ram.fd).expect("dma_map");
    let eventfd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK) };
    assert!(host.client.get_irq_info(MSIX).expect("get_irq_info").count > 1);
    host.client.set_irqs(MSIX, SET_EVENTFD_TRIGGER, 1, 1, &[eventfd]).expect("set_irqs");

    check_io(&mut host, eventfd);
    host.client.reset().expect("reset");
    assert_eq!(host.read32(BAR0, CSTS), 0);
    check_io(&mut host, eventfd);
    host.write32(BAR0, CC, 0);
    wait_for("disabled", || host.read32(BAR0, CSTS) == 0);
    host.client.dma_unmap(RAM_ADDRESS, RAM_SIZE as u64).expect("dma_unmap");
    host.client.shutdown().expect("shutdown");
    println!("as it should be");
}
