//! The options of block-wise transfers. RFC 7959 §2.1, §2.2

use crate::Options;

/// The value of a Block1 or Block2 option: which part of a body, and how large parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number, from 0 to 1,048,575.
    pub number: u32,
    /// Whether more follow.
    pub more: bool,
    /// The exponent of the size: 0 for 16 bytes, 6 for 1,024; [`BERT`](Self::BERT) for any number of 1,024 bytes.
    pub szx: u8,
}

/// Why a value is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// RFC 7959 §2.2
    #[error("the size exponent 7 is reserved")]
    Reserved,
    /// RFC 7959 §2.1
    #[error("a block option of more than three bytes")]
    TooLong,
}

impl Block {
    /// The largest number. RFC 7959 §2.2
    pub const MAX_NUMBER: u32 = (1 << 20) - 1;
    /// The largest exponent.
    pub const MAX_SZX: u8 = 6;
    /// Over a reliable transport: the message has one block of 1,024 bytes or many of them. RFC 8323 §6
    pub const BERT: u8 = 7;

    /// The option of this number; `None` if there is none.
    pub fn of(options: &Options, number: u16) -> Option<Result<Self, BlockError>> {
        Self::of_stream(options, number).map(|block| match block {
            Ok(block) if block.szx == Self::BERT => Err(BlockError::Reserved),
            other => other,
        })
    }

    /// The same in a message over a reliable transport, where the exponent 7 has a meaning. RFC 8323 §6
    pub fn of_stream(options: &Options, number: u16) -> Option<Result<Self, BlockError>> {
        options.get(number).map(|value| Self::parse(value))
    }

    fn parse(value: &[u8]) -> Result<Self, BlockError> {
        if value.len() > 3 {
            return Err(BlockError::TooLong);
        }
        let value = crate::options::uint_of(value).expect("at most three bytes");
        Ok(Self {
            number: value >> 4,
            more: value & 8 != 0,
            szx: (value & 7) as u8,
        })
    }

    /// Bytes of each block but the last.
    pub fn size(self) -> usize {
        16 << self.szx.min(Self::MAX_SZX)
    }

    /// Whether a message that is not the last may have so many bytes of the body. RFC 7959 §2.2, RFC 8323 §6
    pub fn is_filled_by(self, bytes: usize) -> bool {
        match self.szx {
            Self::BERT => bytes > 0 && bytes.is_multiple_of(self.size()),
            _ => bytes == self.size(),
        }
    }

    /// Where it begins in the body.
    pub fn offset(self) -> usize {
        self.number as usize * self.size()
    }

    /// Adds it to the options.
    pub fn put(self, options: &mut Options, number: u16) {
        let value = self.number << 4 | u32::from(self.more) << 3 | u32::from(self.szx);
        options.push_uint(number, value);
    }

    /// The largest exponent whose blocks have at most so many bytes, and at least 16.
    pub fn szx_within(bytes: usize) -> u8 {
        (0..=Self::MAX_SZX)
            .rev()
            .find(|szx| 16 << szx <= bytes)
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::BLOCK2;

    /// RFC 7959 §2.2 \[RFC7959-2.2-1\]
    #[test]
    fn a_block_is_a_number_a_flag_and_a_size() {
        for (block, bytes) in [
            (
                Block {
                    number: 0,
                    more: false,
                    szx: 0,
                },
                &[][..],
            ),
            (
                Block {
                    number: 0,
                    more: true,
                    szx: 6,
                },
                &[0x0E],
            ),
            (
                Block {
                    number: 1,
                    more: false,
                    szx: 2,
                },
                &[0x12],
            ),
            (
                Block {
                    number: Block::MAX_NUMBER,
                    more: true,
                    szx: 6,
                },
                &[0xFF, 0xFF, 0xFE],
            ),
        ] {
            let mut options = Options::default();
            block.put(&mut options, BLOCK2);
            assert_eq!(&options.get(BLOCK2).unwrap()[..], bytes);
            assert_eq!(Block::of(&options, BLOCK2), Some(Ok(block)));
        }
        assert_eq!(
            (Block {
                number: 3,
                more: false,
                szx: 2
            })
            .offset(),
            192
        );
        assert_eq!(
            [15, 16, 100, 1_024, 9_000].map(Block::szx_within),
            [0, 0, 2, 6, 6]
        );
    }

    /// RFC 7959 §2.2: "The value 7 for SZX (which would indicate a block size of 2048) is reserved, i.e., MUST NOT be sent" \[RFC7959-2.2-2\]
    #[test]
    fn the_reserved_size_and_long_values_are_refused() {
        let mut options = Options::default();
        options.push(BLOCK2, &[0x07][..]);
        assert_eq!(Block::of(&options, BLOCK2), Some(Err(BlockError::Reserved)));
        let bert = Block {
            number: 0,
            more: false,
            szx: Block::BERT,
        };
        assert_eq!(Block::of_stream(&options, BLOCK2), Some(Ok(bert)));
        let mut options = Options::default();
        options.push(BLOCK2, &[0; 4][..]);
        assert_eq!(Block::of(&options, BLOCK2), Some(Err(BlockError::TooLong)));
    }
}
