//! HAC: hybrid adaptive caching, from Thor.
//!
//! Castro and others, "HAC: Hybrid Adaptive Caching for Distributed Storage Systems" (SOSP 1997). Objects come packed
//! in frames. To free one, the policy looks at some frames, takes the coldest of those that it looked at lately, and
//! moves its hot objects to a frame for hot objects. If most objects of a frame are hot or cold together, this is
//! paging; otherwise it is object caching.
//!
//! An object has 4 bits of usage. A use sets the highest. A look at its frame adds one and shifts to the right, so an
//! object that was ever used stays above one that never was. The threshold of a frame is the smallest usage that
//! objects with at most two thirds of its objects' bytes exceed.

use hashbrown::HashMap;

use super::pages::PAGE_BYTES;
use crate::policy::{Policy, Request};

const USED: u8 = 8;
const USAGE_MAX: u8 = 15;
/// Frames that are looked at for each one that is freed.
const FRAMES_PER_LOOK: usize = 3;
/// A candidate counts for so many looks.
const CANDIDATE_LOOKS: u64 = 20;

#[derive(Clone, Copy, Debug)]
struct Object {
    oid: u64,
    size: u64,
    usage: u8,
}

#[derive(Debug)]
struct Frame {
    objects: Vec<Object>,
    /// Bytes that objects may take.
    bytes: u64,
    /// Bytes left at its end; those of invalidated objects are not among them.
    left: u64,
}

/// The frames, and a list of cold ones.
#[derive(Debug)]
pub struct Hac {
    frames: Vec<Option<Frame>>,
    objects: HashMap<u64, usize>,
    /// Frames by their thresholds, and when they were looked at.
    candidates: Vec<(u8, u64, usize, u64)>,
    /// The frame for new objects, and the one for hot objects.
    open: Option<usize>,
    hot: Option<usize>,
    hand: usize,
    looks: u64,
    used: u64,
    frame_bytes: u64,
    capacity: u64,
    header: u32,
}

impl Hac {
    /// An empty cache.
    pub fn new(capacity: u64, header: u32) -> Hac {
        Hac {
            frames: Vec::new(),
            objects: HashMap::new(),
            candidates: Vec::new(),
            open: None,
            hot: None,
            hand: 0,
            looks: 0,
            used: 0,
            frame_bytes: PAGE_BYTES.min(capacity / 8),
            capacity,
            header,
        }
    }

    fn frame(&mut self, number: Option<usize>) -> Option<&mut Frame> {
        self.frames.get_mut(number?)?.as_mut()
    }

    fn begin(&mut self, bytes: u64, evicted: &mut Vec<u64>) -> usize {
        while self.used + bytes > self.capacity {
            if !self.free_one(evicted) {
                break;
            }
        }
        self.used += bytes;
        let frame = Some(Frame { objects: Vec::new(), bytes, left: bytes });
        match self.frames.iter().position(Option::is_none) {
            Some(number) => {
                self.frames[number] = frame;
                number
            }
            None => {
                self.frames.push(frame);
                self.frames.len() - 1
            }
        }
    }

    /// Looks at the next frames, and empties the coldest candidate; whether there is one.
    fn free_one(&mut self, evicted: &mut Vec<u64>) -> bool {
        self.look();
        let looks = self.looks;
        self.candidates.retain(|(.., seen)| seen + CANDIDATE_LOOKS > looks);
        let coldest = self.candidates.iter().map(|(threshold, hot, number, _)| (*threshold, *hot, *number)).min();
        let (threshold, number) = match coldest {
            Some((threshold, _, number)) => (threshold, number),
            // Only the frames that are written to are left.
            None => match self.frames.iter().position(Option::is_some) {
                Some(number) => (USAGE_MAX, number),
                None => return false,
            },
        };
        self.candidates.retain(|candidate| candidate.2 != number);
        self.open = self.open.filter(|open| *open != number);
        self.hot = self.hot.filter(|hot| *hot != number);
        self.compact(number, threshold, evicted);
        true
    }

    fn look(&mut self) {
        self.looks += 1;
        let count = self.frames.len();
        for _ in 0..FRAMES_PER_LOOK.min(count) {
            self.hand = (self.hand + 1) % count;
            let number = self.hand;
            let is_written = self.open == Some(number) || self.hot == Some(number);
            let Some(frame) = &mut self.frames[number] else { continue };
            for object in &mut frame.objects {
                object.usage = (object.usage + 1) >> 1;
            }
            if is_written {
                continue;
            }
            let hot = |above: u8| -> u64 {
                frame.objects.iter().filter(|object| object.usage > above).map(|object| object.size).sum()
            };
            // Of the objects' bytes, and not of the frame's: otherwise a frame with holes would keep all its objects.
            let bytes: u64 = frame.objects.iter().map(|object| object.size).sum();
            let threshold = (0..USAGE_MAX).find(|above| hot(*above) * 3 <= bytes * 2).unwrap_or(USAGE_MAX);
            let candidate = (threshold, hot(threshold), number, self.looks);
            self.candidates.retain(|other| other.2 != number);
            self.candidates.push(candidate);
        }
    }

    /// Moves the objects above a threshold to the frame for hot ones, and evicts the others. If that frame gets full,
    /// this one takes its part.
    fn compact(&mut self, number: usize, threshold: u8, evicted: &mut Vec<u64>) {
        let Some(Frame { objects, bytes, .. }) = self.frames[number].take() else { return };
        let mut kept = Frame { objects: Vec::new(), bytes, left: bytes };
        for object in objects {
            if object.usage <= threshold {
                self.objects.remove(&object.oid);
                evicted.push(object.oid);
                continue;
            }
            let hot = self.hot;
            match self.frame(hot).filter(|frame| frame.left >= object.size) {
                Some(frame) if kept.objects.is_empty() => {
                    frame.left -= object.size;
                    frame.objects.push(object);
                    self.objects.insert(object.oid, hot.unwrap_or(number));
                }
                _ => {
                    kept.left -= object.size;
                    kept.objects.push(object);
                }
            }
        }
        if kept.objects.is_empty() {
            self.used -= bytes;
        } else {
            self.frames[number] = Some(kept);
            self.hot = Some(number);
        }
    }
}

impl Policy for Hac {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.used
    }

    fn has(&self, oid: u64) -> bool {
        self.objects.contains_key(&oid)
    }

    fn get(&mut self, request: Request, _: &mut Vec<u64>) -> bool {
        let Some(&number) = self.objects.get(&request.oid) else { return false };
        if let Some(frame) = self.frame(Some(number))
            && let Some(object) = frame.objects.iter_mut().find(|object| object.oid == request.oid)
        {
            object.usage |= USED;
        }
        true
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let size = u64::from(request.size) + u64::from(self.header);
        if size > self.capacity || self.has(request.oid) {
            return;
        }
        let open = self.open;
        if self.frame(open).is_none_or(|frame| frame.left < size) {
            self.open = None;
            let number = self.begin(self.frame_bytes.max(size), evicted);
            self.open = Some(number);
        }
        let open = self.open;
        if let Some(frame) = self.frame(open) {
            frame.left -= size;
            // It was asked for, so it was used.
            frame.objects.push(Object { oid: request.oid, size, usage: USED });
            self.objects.insert(request.oid, open.unwrap_or_default());
        }
    }

    fn invalidate(&mut self, oid: u64) {
        let number = self.objects.remove(&oid);
        if let Some(frame) = self.frame(number) {
            frame.objects.retain(|object| object.oid != oid);
        }
    }
}
