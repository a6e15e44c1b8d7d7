//! Whether bytes that come in parts are UTF-8. RFC 6455 §8.1

/// What is known after the parts so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Utf8 {
    /// It is, up to the beginning of a character: so many bytes of it.
    Cut([u8; 4], usize),
    /// It is not.
    Broken,
}

impl Default for Utf8 {
    fn default() -> Self {
        Self::Cut([0; 4], 0)
    }
}

impl Utf8 {
    /// Takes the next part.
    pub(super) fn push(&mut self, mut part: &[u8]) {
        let Self::Cut(mut cut, mut len) = *self else {
            return;
        };
        while len > 0 {
            let Some((byte, rest)) = part.split_first() else {
                *self = Self::Cut(cut, len);
                return;
            };
            (cut[len], part) = (*byte, rest);
            len += 1;
            match std::str::from_utf8(&cut[..len]) {
                Ok(_) => len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => {
                    *self = Self::Broken;
                    return;
                }
            }
        }
        *self = match std::str::from_utf8(part) {
            Ok(_) => Self::default(),
            Err(error) if error.error_len().is_none() => {
                let rest = &part[error.valid_up_to()..];
                cut[..rest.len()].copy_from_slice(rest);
                Self::Cut(cut, rest.len())
            }
            Err(_) => Self::Broken,
        };
    }

    /// No more comes.
    pub(super) fn end(&mut self) {
        *self = match *self {
            Self::Cut(_, 0) => Self::default(),
            Self::Cut(..) | Self::Broken => Self::Broken,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn is_text(bytes: &[u8], cuts: &[usize]) -> bool {
        let (mut utf8, mut rest) = (Utf8::default(), bytes);
        for cut in cuts {
            let (part, behind) = rest.split_at((*cut).min(rest.len()));
            utf8.push(part);
            rest = behind;
        }
        utf8.push(rest);
        utf8.end();
        utf8 != Utf8::Broken
    }

    proptest! {
        #[test]
        fn cut_anywhere_it_is_what_it_is_in_one_piece(text in ".*", bytes in vec(any::<u8>(), 0..6), at in 0..40_usize, cuts in vec(0..5_usize, 0..40)) {
            prop_assert!(is_text(text.as_bytes(), &cuts));
            let mut mixed = text.into_bytes();
            let at = at.min(mixed.len());
            mixed.splice(at..at, bytes);
            prop_assert_eq!(is_text(&mixed, &cuts), std::str::from_utf8(&mixed).is_ok());
        }
    }
}
