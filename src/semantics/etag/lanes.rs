//! FNV-1a in lanes that do not wait for one another.

/// Lanes of 64-bit FNV-1a over interleaved words of the content, as [`TagKind::Fnv1a`](super::TagKind::Fnv1a) says.
///
/// ```text
/// byte   0..8   8..16  16..24  ..  80..88  88..96 |  96..104  104..112  ..
/// lane     0      1       2    ..    10      11   |     0         1     ..
/// ```
///
/// FNV-1a is serial: each byte waits for the multiplication of the one before, about four cycles. A processor has several
/// multiplications under way at a time, so twelve lanes that do not wait for one another take an eighth of the time. With
/// fewer lanes some multipliers stay idle; more do not fit into the registers. A lane takes a word, not a byte, because a
/// compiler makes vector code of lanes whose bytes are neighbours, which is slower without a 64-bit multiplication of
/// vectors, and few builds have that.
#[derive(Clone)]
pub(super) struct FnvLanes {
    /// The position within a block of the next byte.
    at: usize,
    lanes: [u64; LANES],
}

const LANES: usize = 12;
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
        let until_word = (WORD - self.at % WORD) % WORD;
        let (rest_of_word, rest) = content.split_at(content.len().min(until_word));
        self.update_within_word(rest_of_word);
        let (words, last) = rest.as_chunks();
        let until_block = (LANES - self.at / WORD) % LANES;
        let (rest_of_block, words) = words.split_at(words.len().min(until_block));
        self.update_within_block(rest_of_block);
        let (blocks, words) = words.as_chunks();
        self.update_blocks(blocks);
        self.update_within_block(words);
        self.update_within_word(last);
    }

    /// Takes whole blocks, where one begins.
    fn update_blocks(&mut self, blocks: &[[[u8; WORD]; LANES]]) {
        let mut lanes = self.lanes; // in registers
        for block in blocks {
            for position in 0..WORD {
                for (hash, word) in lanes.iter_mut().zip(block) {
                    *hash = with(*hash, word[position]);
                }
            }
        }
        self.lanes = lanes;
    }

    /// Takes whole words that do not reach beyond the end of a block, where a word begins.
    fn update_within_block(&mut self, words: &[[u8; WORD]]) {
        for (hash, word) in self.lanes[self.at / WORD..].iter_mut().zip(words) {
            *hash = word.iter().fold(*hash, |hash, &byte| with(hash, byte));
        }
        self.at = (self.at + words.len() * WORD) % BLOCK;
    }

    /// Takes bytes that do not reach beyond the end of a word.
    fn update_within_word(&mut self, bytes: &[u8]) {
        let hash = &mut self.lanes[self.at / WORD];
        *hash = bytes.iter().fold(*hash, |hash, &byte| with(hash, byte));
        self.at = (self.at + bytes.len()) % BLOCK;
    }

    /// FNV-1a over the values of the lanes and the length of the content.
    pub(super) fn folded_with(&self, length: u64) -> u64 {
        let values = self.lanes.into_iter().chain([length]);
        values.flat_map(u64::to_le_bytes).fold(OFFSET_BASIS, with)
    }
}
