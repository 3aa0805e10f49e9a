// SPDX-License-Identifier: Apache-2.0

//! The driver's side of virtqueues in guest memory, one request at a time (Virtio 1.2 §2.7, §2.8).

use std::sync::atomic::{fence, Ordering};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// One buffer of a request: its address in the guest, its size, and whether the device writes it.
#[derive(Clone, Copy)]
pub struct Buffer {
    pub address: u64,
    pub size: u32,
    pub writable: bool,
}

/// Guest addresses of a ring's parts, for SET_VRING_ADDR.
pub struct Parts {
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

pub trait Ring {
    fn parts(&self) -> Parts;
    fn size(&self) -> u16;
    /// The value of SET_VRING_BASE before the first request.
    fn first_base(&self) -> u16;
    /// The expected answer to GET_VRING_BASE.
    fn base(&self) -> u32;
    /// Makes a request visible to the device.
    fn submit(&mut self, memory: &GuestMemoryMmap, chain: &[Buffer]);
    /// Returns the number of bytes that the device reports as written; None before the answer.
    fn answer(&mut self, memory: &GuestMemoryMmap) -> Option<u32>;
}

fn put_descriptor(memory: &GuestMemoryMmap, at: u64, buffer: &Buffer, words: [u16; 2]) {
    memory.write_obj(buffer.address, GuestAddress(at)).unwrap();
    memory.write_obj(buffer.size, GuestAddress(at + 8)).unwrap();
    memory.write_obj(words[0], GuestAddress(at + 12)).unwrap();
    memory.write_obj(words[1], GuestAddress(at + 14)).unwrap();
}

fn flags_of(chain: &[Buffer], index: usize) -> u16 {
    let next = if index + 1 < chain.len() { NEXT } else { 0 };
    next | if chain[index].writable { WRITE } else { 0 }
}

pub struct SplitRing {
    address: u64,
    size: u16,
    submitted: u16,
    answered: u16,
}

impl SplitRing {
    pub const BYTES: u64 = 8192;

    /// Uses `BYTES` of zeroed memory.
    pub fn new(address: u64, size: u16) -> Self {
        SplitRing { address, size, submitted: 0, answered: 0 }
    }
}

impl Ring for SplitRing {
    fn parts(&self) -> Parts {
        Parts {
            descriptors: self.address,
            available: self.address + 4096,
            used: self.address + 6144,
        }
    }
    fn size(&self) -> u16 {
        self.size
    }
    fn first_base(&self) -> u16 {
        0
    }
    fn base(&self) -> u32 {
        u32::from(self.submitted)
    }

    fn submit(&mut self, memory: &GuestMemoryMmap, chain: &[Buffer]) {
        let parts = self.parts();
        for (i, buffer) in chain.iter().enumerate() {
            let at = parts.descriptors + 16 * i as u64;
            put_descriptor(memory, at, buffer, [flags_of(chain, i), i as u16 + 1]);
        }
        let slot = u64::from(self.submitted % self.size);
        memory.write_obj(0u16, GuestAddress(parts.available + 4 + 2 * slot)).unwrap();
        self.submitted = self.submitted.wrapping_add(1);
        memory
            .store(self.submitted, GuestAddress(parts.available + 2), Ordering::Release)
            .unwrap();
        fence(Ordering::SeqCst);
    }

    fn answer(&mut self, memory: &GuestMemoryMmap) -> Option<u32> {
        let used = self.parts().used;
        let index: u16 = memory.load(GuestAddress(used + 2), Ordering::Acquire).unwrap();
        if index == self.answered {
            return None;
        }
        let element = used + 4 + 8 * u64::from(self.answered % self.size);
        self.answered = self.answered.wrapping_add(1);
        assert_eq!(index, self.answered, "more answers than requests");
        assert_eq!(memory.read_obj::<u32>(GuestAddress(element)).unwrap(), 0, "the head");
        Some(memory.read_obj(GuestAddress(element + 4)).unwrap())
    }
}

const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

pub struct PackedRing {
    address: u64,
    size: u16,
    next: u16,
    wrap: bool,
    /// The position of the outstanding request, with its number of descriptors and its ID.
    first: (u16, bool),
    count: u16,
    id: u16,
}

impl PackedRing {
    pub const BYTES: u64 = 8192;

    /// Uses `BYTES` of zeroed memory.
    pub fn new(address: u64, size: u16) -> Self {
        PackedRing { address, size, next: 0, wrap: true, first: (0, true), count: 0, id: 0 }
    }
    fn descriptor(&self, index: u16) -> u64 {
        self.address + 16 * u64::from(index)
    }
}

impl Ring for PackedRing {
    fn parts(&self) -> Parts {
        Parts {
            descriptors: self.address,
            available: self.address + 4096,
            used: self.address + 4100,
        }
    }
    fn size(&self) -> u16 {
        self.size
    }
    fn first_base(&self) -> u16 {
        1 << 15
    }
    fn base(&self) -> u32 {
        let place = u32::from(self.next) | u32::from(self.wrap) << 15;
        place | place << 16
    }

    fn submit(&mut self, memory: &GuestMemoryMmap, chain: &[Buffer]) {
        self.first = (self.next, self.wrap);
        self.count = chain.len() as u16;
        self.id = (self.id + 1) % self.size;
        let mut first_flags = 0;
        for (i, buffer) in chain.iter().enumerate() {
            let turn = if self.wrap { AVAILABLE } else { USED };
            let mut flags = flags_of(chain, i) | turn;
            if i == 0 {
                // The device must not see the chain before it is complete.
                first_flags = std::mem::replace(&mut flags, if self.wrap { USED } else { AVAILABLE });
            }
            put_descriptor(memory, self.descriptor(self.next), buffer, [self.id, flags]);
            self.next += 1;
            if self.next == self.size {
                self.next = 0;
                self.wrap = !self.wrap;
            }
        }
        let at = self.descriptor(self.first.0) + 14;
        memory.store(first_flags, GuestAddress(at), Ordering::Release).unwrap();
        fence(Ordering::SeqCst);
    }

    fn answer(&mut self, memory: &GuestMemoryMmap) -> Option<u32> {
        let at = self.descriptor(self.first.0);
        let flags: u16 = memory.load(GuestAddress(at + 14), Ordering::Acquire).unwrap();
        let used = if self.first.1 { AVAILABLE | USED } else { 0 };
        if flags & (AVAILABLE | USED) != used {
            return None;
        }
        let id: u16 = memory.read_obj(GuestAddress(at + 12)).unwrap();
        assert_eq!(id, self.id, "the buffer ID");
        Some(memory.read_obj(GuestAddress(at + 8)).unwrap())
    }
}
