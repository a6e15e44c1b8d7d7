//! Arguments of Execute: `0='hello',1`. Core 1.0 §5.4.5, Core 1.2 §6.3.5

/// Where a text is no list of arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no arguments of Execute at byte {0}: a digit, or a digit with a text: 0='on',1")]
pub struct ArgumentsError(pub usize);

/// That a text is a list of arguments: none, or digits with commas between them, each perhaps with a text in single quotes. A text has printable characters of ASCII
/// without spaces, quotes and backslashes.
pub fn check_arguments(arguments: &str) -> Result<(), ArgumentsError> {
    let bytes = arguments.as_bytes();
    let mut at = 0;
    let expect = |at: &mut usize, wanted: fn(u8) -> bool| match bytes.get(*at) {
        Some(byte) if wanted(*byte) => {
            *at += 1;
            Ok(())
        }
        _ => Err(ArgumentsError(*at)),
    };
    if bytes.is_empty() {
        return Ok(());
    }
    loop {
        expect(&mut at, |byte| byte.is_ascii_digit())?;
        if expect(&mut at, |byte| byte == b'=').is_ok() {
            expect(&mut at, |byte| byte == b'\'')?;
            while expect(&mut at, is_of_text).is_ok() {}
            expect(&mut at, |byte| byte == b'\'')?;
        }
        if at == bytes.len() {
            return Ok(());
        }
        expect(&mut at, |byte| byte == b',')?;
    }
}

fn is_of_text(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// \[LWM2M-6.3.5-ARGUMENTS\]
    #[test]
    fn arguments_are_digits_with_texts() {
        for text in [
            "",
            "5",
            "2='10.3'",
            "7,0='https://www.oma.org'",
            "0,1,2,3,4",
            "0=''",
        ] {
            assert_eq!(check_arguments(text), Ok(()), "{text}");
        }
    }

    /// \[LWM2M-6.3.5-ARGUMENTS\]
    #[test]
    fn what_is_no_list_is_refused_where_it_stands() {
        for (text, at) in [
            ("a", 0),
            ("10", 1),
            ("0,", 2),
            ("0=1", 2),
            ("0='a", 4),
            ("0='a b'", 4),
            ("0='a\"'", 4),
            ("0='é'", 3),
            ("0='a'1", 5),
            ("0, 1", 2),
        ] {
            assert_eq!(check_arguments(text), Err(ArgumentsError(at)), "{text}");
        }
    }
}
