//! GraphQL documents, as far as their outermost level: which operations they have.

/// Whether a document has queries and fragments, and no other definition.
///
/// What two parsers could read in different ways is no such document: block strings, which old parsers do not know, and
/// anything beyond printable ASCII outside strings, some of which ended a line in old ones.
pub(super) fn has_queries_only(document: &str) -> bool {
    definitions(document).is_some_and(|queries| queries > 0)
}

/// The number of queries; `None` if there is anything else than queries and fragments.
fn definitions(document: &str) -> Option<usize> {
    let mut tokens = Tokens { rest: document };
    let mut queries = 0;
    loop {
        match tokens.next()? {
            Token::End => return Some(queries),
            Token::Mark('{') => {
                queries += 1;
                skip_until_closed(&mut tokens, '}')?;
            }
            Token::Name("query") => {
                queries += 1;
                operation(&mut tokens)?;
            }
            Token::Name("fragment") => fragment(&mut tokens)?,
            _ => return None,
        }
    }
}

/// What follows `query`: a name, variables, directives, and what is selected.
fn operation(tokens: &mut Tokens<'_>) -> Option<()> {
    let mut next = tokens.next()?;
    if let Token::Name(_) = next {
        next = tokens.next()?;
    }
    if next == Token::Mark('(') {
        skip_until_closed(tokens, ')')?;
        next = tokens.next()?;
    }
    selection(tokens, next)
}

/// What follows `fragment`: its name, its type, directives, and what is selected.
fn fragment(tokens: &mut Tokens<'_>) -> Option<()> {
    let (Token::Name(name), Token::Name("on"), Token::Name(_)) =
        (tokens.next()?, tokens.next()?, tokens.next()?)
    else {
        return None;
    };
    let next = tokens.next()?;
    if name == "on" { None } else { selection(tokens, next) }
}

/// Directives, and what is selected.
fn selection<'a>(tokens: &mut Tokens<'a>, mut next: Token<'a>) -> Option<()> {
    while next == Token::Mark('@') {
        let Token::Name(_) = tokens.next()? else {
            return None;
        };
        next = tokens.next()?;
        if next == Token::Mark('(') {
            skip_until_closed(tokens, ')')?;
            next = tokens.next()?;
        }
    }
    if next == Token::Mark('{') { skip_until_closed(tokens, '}') } else { None }
}

/// Skips everything up to a closing bracket, of which the opening one has been read.
fn skip_until_closed(tokens: &mut Tokens<'_>, closing: char) -> Option<()> {
    let mut open = vec![closing];
    // Counted, since to look for them takes as long as the content is deep.
    let mut arguments = usize::from(closing == ')');
    while let Some(awaited) = open.last().copied() {
        match tokens.next()? {
            Token::Mark('(') => {
                open.push(')');
                arguments += 1;
            }
            Token::Mark('[') => open.push(']'),
            Token::Mark('{') => open.push('}'),
            Token::Mark(mark @ (')' | ']' | '}')) => {
                if mark != awaited {
                    return None;
                }
                open.pop();
                arguments -= usize::from(mark == ')');
            }
            // Values are of arguments, so that no JSON passes for a document.
            Token::Value if arguments == 0 => return None,
            Token::End => return None,
            Token::Mark(_) | Token::Name(_) | Token::Value => {}
        }
    }
    Some(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    End,
    Mark(char),
    Name(&'a str),
    /// A number or a string.
    Value,
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    /// The next one; `None` where there is none that all parsers agree on.
    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r', ',']);
            match self.rest.strip_prefix('#') {
                None => break,
                Some(comment) => {
                    let end = comment.find(['\n', '\r']).unwrap_or(comment.len());
                    let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
                    comment[..end].bytes().all(is_plain).then_some(())?;
                    self.rest = &comment[end..];
                }
            }
        }
        let Some(first) = self.rest.chars().next() else {
            return Some(Token::End);
        };
        match first {
            'A'..='Z' | 'a'..='z' | '_' => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                Some(Token::Name(self.split(self.rest.find(|c| !is_part(c)))))
            }
            '0'..='9' | '-' => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
                self.split(self.rest.find(|c| !is_part(c)));
                Some(Token::Value)
            }
            '"' => self.string(),
            '!' | '$' | '&' | '(' | ')' | '.' | ':' | '=' | '@' | '[' | ']' | '{' | '|' | '}' => {
                self.split(Some(1));
                Some(Token::Mark(first))
            }
            _ => None,
        }
    }

    /// Splits off what is before a place.
    fn split(&mut self, end: Option<usize>) -> &'a str {
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        token
    }

    fn string(&mut self) -> Option<Token<'a>> {
        if self.rest.starts_with("\"\"\"") {
            return None;
        }
        let mut is_escaped = false;
        let end = self.rest[1..].find(|c: char| {
            let is_end = !is_escaped && matches!(c, '"' | '\n' | '\r');
            is_escaped = !is_escaped && c == '\\';
            is_end
        })?;
        let is_closed = self.rest[1 + end..].starts_with('"');
        self.rest = &self.rest[end + 2..];
        is_closed.then_some(Token::Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_document_of_queries_and_fragments_is_recognised() {
        for document in [
            "{a}",
            "query{a}",
            "query Q{a}",
            "query mutation { mutation(subscription: \"mutation {a}\") }",
            "query Q($a: [Int!]! = [1, 2], $b: T = {c: \"}\"}) @live(if: $a) @x { a(b: $b) { ...F ... on T { c } } }",
            "fragment F on T @x { mutation } query { ...F }",
            "# mutation\n{a}#\r\n, {b} # ~",
            "{ a(b: \"\\\"} mutation {\", c: \"\\\\\", d: \"\") }",
            "{ a(b: -1.5e+3, c: ENUM, d: null, e: \"é\u{2028}\") }",
        ] {
            assert!(has_queries_only(document), "{document}");
        }
    }

    #[test]
    fn everything_else_is_taken_for_a_mutation() {
        for document in [
            "",
            "# only",
            "fragment F on T { a }",
            "mutation{a}",
            "subscription{a}",
            "{a} mutation{b}",
            "mutation{a} query Q{b}",
            "query A{a} mutation B{b} query C{c}",
            "type T { a: Int }",
            "schema { query: Q }",
            "extend type T { a: Int }",
            "\"description\" query Q{a}",
            "Query{a}",
            "query",
            "query Q",
            "query Q mutation {a}",
            "query Q() Q {a}",
            "fragment on on T {a} {b}",
            "fragment F {a} {b}",
            "query @ {a}",
            "{a",
            "{a}}",
            "{a)}",
            "{(a}",
            "}{",
            "{a(b: \"x) }",
            "{a(b: \"x\n\") }",
            // Block strings, which old parsers read as three strings.
            "{a(b: \"\"\" \" } mutation { b } { \" \"\"\")}",
            "{a(b: \"\"\"x\"\"\")}",
            // A line separator ended a comment in old ones.
            "{a #\u{2028}} mutation {b\n}",
            "{a #\u{b}} mutation {b\n}",
            "\u{feff}{a}",
            "{a\u{a0}}",
            "{a;}",
            "{\"query\": \"mutation {a}\"}",
            "{a(b: 1) {\"c\"}}",
            "{a(b: 'x')}",
        ] {
            assert!(!has_queries_only(document), "{document}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_queries_or_not(text: String) {
            has_queries_only(&text);
        }

        /// Whatever surrounds it, what is not within brackets, strings or comments is found.
        #[test]
        fn no_mutation_hides_behind_queries(
            before in prop::collection::vec(0..8_usize, 0..4), after in prop::collection::vec(0..8_usize, 0..4),
        ) {
            const PIECES: [&str; 8] = [
                "{a}", "query Q{a(b:\"\\\"}#\")}", "#}\"\n", " ", "fragment F on T{c}", ",", "{a(b:[{c:\"#\"}])}", "query($a:T={b:1})@c{d}",
            ];
            let text = |list: &[usize]| list.iter().map(|at| PIECES[*at]).collect::<String>();
            let (before, after) = (text(&before), text(&after));
            for definition in ["mutation{m}", "subscription S{m}", "mutation M($a:T)@b{m}"] {
                let document = format!("{before}{definition}{after}");
                prop_assert!(!has_queries_only(&document), "{}", document);
            }
            let document = format!("{before}{{q}}{after}");
            prop_assert!(has_queries_only(&document), "{}", document);
        }
    }
}
