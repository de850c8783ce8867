//! A strict reader of JSON (RFC 8259), for what decides whether content is a query: it builds nothing, and what any parser
//! could read in another way is no JSON here.

/// Values within values, at most.
const DEEPEST: usize = 64;

/// A place in a text.
pub(super) struct Json<'a> {
    depth: usize,
    rest: &'a str,
}

impl<'a> Json<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { depth: 0, rest: text }
    }

    /// The first byte of the next value.
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.as_bytes().first().copied()
    }

    /// Whether there is nothing more.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        let is_next = self.peek() == Some(byte);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next.then_some(())
    }

    fn deeper(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth <= DEEPEST).then_some(())
    }

    /// Reads an array, with `element` for each value in it. `None` where it is none, or an element is not as it should be.
    pub(super) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(b'[')?;
        self.deeper()?;
        if self.take(b']').is_none() {
            loop {
                element(self)?;
                if self.take(b',').is_none() {
                    self.take(b']')?;
                    break;
                }
            }
        }
        self.depth -= 1;
        Some(())
    }

    /// Reads an object, with `member` for each name and its value.
    pub(super) fn object(&mut self, mut member: impl FnMut(&mut Self, &str) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        self.deeper()?;
        if self.take(b'}').is_none() {
            loop {
                let name = self.string()?;
                self.take(b':')?;
                member(self, &name)?;
                if self.take(b',').is_none() {
                    self.take(b'}')?;
                    break;
                }
            }
        }
        self.depth -= 1;
        Some(())
    }

    /// Reads a string.
    pub(super) fn string(&mut self) -> Option<String> {
        self.take(b'"')?;
        let mut text = String::new();
        loop {
            let end = self.rest.find(|c: char| matches!(c, '"' | '\\') || c < ' ')?;
            text.push_str(&self.rest[..end]);
            let stop = self.rest.as_bytes()[end];
            self.rest = &self.rest[end + 1..];
            match stop {
                b'"' => return Some(text),
                b'\\' => text.push(self.escaped()?),
                _ => return None,
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let kind = *self.rest.as_bytes().first()?;
        let plain = match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unit(),
            _ => return None,
        };
        self.rest = &self.rest[1..];
        Some(plain)
    }

    /// A character by its UTF-16 code, or by two of them.
    fn unit(&mut self) -> Option<char> {
        let first = self.code()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first.into());
        }
        self.rest = self.rest.strip_prefix('\\')?;
        char::decode_utf16([first, self.code()?]).next()?.ok()
    }

    fn code(&mut self) -> Option<u16> {
        let (digits, rest) = self.rest.strip_prefix('u')?.split_at_checked(4)?;
        self.rest = rest;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
    }

    /// Reads any value.
    pub(super) fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' => self.object(|json, _| json.value()),
            b'[' => self.array(Self::value),
            b'-' | b'0'..=b'9' => self.number(),
            _ => ["null", "true", "false"].iter().find_map(|word| self.word(word)),
        }
    }

    /// Reads `null`, `true` or `false`.
    pub(super) fn word(&mut self, word: &str) -> Option<()> {
        self.peek();
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        self.rest = self.rest.strip_prefix('-').unwrap_or(self.rest);
        if let Some(after_zero) = self.rest.strip_prefix('0') {
            self.rest = after_zero;
        } else {
            self.digits()?;
        }
        if let Some(fraction) = self.rest.strip_prefix('.') {
            self.rest = fraction;
            self.digits()?;
        }
        if let Some(exponent) = self.rest.strip_prefix(['e', 'E']) {
            self.rest = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let are_there = rest.len() < self.rest.len();
        self.rest = rest;
        are_there.then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_json(text: &str) -> bool {
        let mut json = Json::new(text);
        json.value().is_some() && json.is_at_end()
    }

    #[test]
    fn json_is_read_by_the_letter() {
        for text in [
            "null",
            " true ",
            "false\n",
            "0",
            "-0.5e+10",
            "12E3",
            "\"\"",
            "[]",
            "[ ]",
            "[1, [2]]",
            "{}",
            "{ }",
            "{\"a\" : 1, \"b\": [{}]}",
            r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#,
            "\"é\u{2028}\"",
        ] {
            assert!(is_json(text), "{text}");
        }
        for text in [
            "",
            " ",
            "nul",
            "nulls",
            "True",
            "01",
            "+1",
            "1.",
            ".5",
            "1e",
            "-",
            "0x1",
            "NaN",
            "'a'",
            "\"",
            "\"\n\"",
            r#""\x""#,
            r#""\u12g4""#,
            r#""\u+123""#,
            r#""\ud83d""#,
            r#""\ud83dx""#,
            r#""\ud83d\u0041""#,
            r#""\ude00""#,
            "[1,]",
            "[,]",
            "[1 2]",
            "[",
            "]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "{} {}",
            "/**/1",
            "\u{feff}1",
            "1 \u{a0}",
        ] {
            assert!(!is_json(text), "{text}");
        }
        assert!(is_json(&("[".repeat(DEEPEST) + &"]".repeat(DEEPEST))));
        assert!(!is_json(&("[".repeat(DEEPEST + 1) + &"]".repeat(DEEPEST + 1))));
        assert!(!is_json(&"[".repeat(1_000_000)));
    }

    #[test]
    fn escapes_stand_for_their_characters() {
        let string = |text| Json::new(text).string();
        assert_eq!(
            string(r#""mut\u0061tion\ud83D\uDe00 \"\\\/\b\f\n\r\t""#).as_deref(),
            Some("mutation😀 \"\\/\u{8}\u{c}\n\r\t")
        );
        assert_eq!(string(r#""a" rest"#).as_deref(), Some("a"));
        assert_eq!(string("\"\u{7f}é\"").as_deref(), Some("\u{7f}é"));
    }

    #[cfg(feature = "serde")]
    mod against_serde {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn what_is_json_here_is_json_to_others(text in r#"([\[\]{}:,"\\a1e.u0-]|null|\\u00e9|"a":){0,12}"#) {
                let others = serde_json::from_str::<serde_json::Value>(&text);
                prop_assert_eq!(is_json(&text), others.is_ok(), "{}", text);
                let mut json = Json::new(&text);
                if let (Some(string), Ok(value)) = (json.string(), others) {
                    prop_assert_eq!(value.as_str(), Some(&*string));
                }
            }
        }
    }
}
