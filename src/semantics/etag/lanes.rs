//! FNV-1a in lanes that do not wait for one another.

/// Lanes of 64-bit FNV-1a over interleaved words of the content, as [`TagKind::Fnv1a`](super::TagKind::Fnv1a) says.
///
/// ```text
/// byte   0..8   8..16  16..24  24..32  32..40  40..48  48..56  56..64 | 64..72  72..80 ..
/// lane     0      1       2       3       4       5       6       7   |    0       1   ..
/// ```
///
/// FNV-1a is serial: each byte waits for the multiplication of the one before, about four cycles. Processors have
/// several multiplications under way at a time, so lanes that do not depend on one another cost little more than one.
/// Eight fit into the registers of all common processors. A lane takes a word, not a byte, because compilers make vector
/// code of lanes whose bytes are neighbours, and vectors without a 64-bit multiplication (before AVX-512) are slower.
#[derive(Clone)]
pub(super) struct FnvLanes {
    /// The position within a block of the next byte.
    at: usize,
    lanes: [u64; LANES],
}

const LANES: usize = 8;
const WORD: usize = 8;
const BLOCK: usize = LANES * WORD;

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a with one more byte.
#[inline(always)]
fn with(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(PRIME)
}

impl Default for FnvLanes {
    fn default() -> Self {
        Self { at: 0, lanes: [OFFSET_BASIS; LANES] }
    }
}

impl FnvLanes {
    /// Takes the next piece of content.
    pub(super) fn update(&mut self, content: &[u8]) {
        let until_block = (BLOCK - self.at) % BLOCK;
        let (first, rest) = content.split_at(content.len().min(until_block));
        self.update_within_block(first);
        let (blocks, last) = rest.as_chunks();
        self.update_blocks(blocks);
        self.update_within_block(last);
    }

    /// Takes whole blocks, where one begins.
    fn update_blocks(&mut self, blocks: &[[u8; BLOCK]]) {
        let mut lanes = self.lanes; // in registers
        for block in blocks {
            for position in 0..WORD {
                for (lane, hash) in lanes.iter_mut().enumerate() {
                    *hash = with(*hash, block[lane * WORD + position]);
                }
            }
        }
        self.lanes = lanes;
    }

    /// Takes bytes that do not reach beyond the end of a block.
    fn update_within_block(&mut self, mut content: &[u8]) {
        while !content.is_empty() {
            let until_word = WORD - self.at % WORD;
            let (word, rest) = content.split_at(content.len().min(until_word));
            let hash = &mut self.lanes[self.at / WORD];
            *hash = word.iter().fold(*hash, |hash, &byte| with(hash, byte));
            self.at = (self.at + word.len()) % BLOCK;
            content = rest;
        }
    }

    /// FNV-1a over the values of the lanes and the length of the content.
    pub(super) fn folded_with(&self, length: u64) -> u64 {
        let values = self.lanes.into_iter().chain([length]);
        values.flat_map(u64::to_le_bytes).fold(OFFSET_BASIS, with)
    }
}
