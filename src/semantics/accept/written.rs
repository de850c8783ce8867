//! What a field says, as bytes.
//!
//! ```text
//! u8 kind: 1 codings in any order, 3 languages as sent, 4 languages in any order; known codings: 2 listed, 5 one of them,
//!     6 as CloudFront, 7 as Fastly
//! 2, 5, 6, 7: u32 count | known codings; 4: the content's language, or absent
//! u32 count, or 0xffffffff where there is no normal form | what is accepted: name, u16 weight in thousandths
//! ```

use super::{
    ALL, Accepted, By, Codings, Form, KnownCodings, Languages, MOST_MEMBERS, Meaning, Weighted, in_any_order,
};
use crate::semantics::bytes::{Reader, put, put_count};
use crate::semantics::fields::is_token;

impl Meaning {
    pub(in crate::semantics) fn write(&self, target: &mut Vec<u8>) {
        match &self.by {
            // A field that is compared as sent has no meaning apart from that.
            By::Codings(Codings::AsSent | Codings::Negotiated) => target.push(1),
            By::Codings(Codings::Known(known)) => {
                target.push(match known.form {
                    Form::List => 2,
                    Form::One => 5,
                    Form::CloudFront => 6,
                    Form::Fastly => 7,
                });
                put_count(target, known.names.len());
                known.names.iter().for_each(|coding| put(target, Some(coding)));
            }
            By::Languages(Languages::AsSent, _) => target.push(3),
            By::Languages(Languages::Negotiated, content) => {
                target.push(4);
                put(target, content.as_deref());
            }
        }
        let Some(accepted) = &self.accepted else {
            return put(target, None);
        };
        put_count(target, accepted.len());
        for (name, weight) in accepted {
            put(target, Some(name));
            target.extend_from_slice(&weight.to_le_bytes());
        }
    }

    pub(in crate::semantics) fn read(kind: u8, reader: &mut Reader<'_>) -> Option<Self> {
        let by = match kind {
            1 => By::Codings(Codings::Negotiated),
            2 => By::Codings(known(Form::List, reader)?),
            5 => By::Codings(known(Form::One, reader)?),
            6 => By::Codings(known(Form::CloudFront, reader)?),
            7 => By::Codings(known(Form::Fastly, reader)?),
            3 => By::Languages(Languages::AsSent, None),
            4 => {
                let content = reader.optional()?;
                if content.is_some_and(|content| content.iter().any(u8::is_ascii_uppercase)) {
                    return None;
                }
                By::Languages(Languages::Negotiated, content.map(Into::into))
            }
            _ => return None,
        };
        let accepted =
            if reader.is_absent() { None } else { Some(reader.list(weighted)?.into_boxed_slice()) };
        by.can_accept(accepted.as_ref()).then_some(Self { accepted, by })
    }

    /// Whether it is of codings, not of languages.
    pub(in crate::semantics) fn is_of_codings(&self) -> bool {
        matches!(self.by, By::Codings(_))
    }
}

impl By {
    /// Whether it is a normal form, or there may be none.
    fn can_accept(&self, accepted: Option<&Accepted>) -> bool {
        match (self, accepted) {
            (Self::Codings(Codings::Known(known)), None) => known.form == Form::CloudFront,
            (Self::Codings(Codings::Known(known)), Some(accepted)) => {
                let mut names = known.names.iter();
                (accepted.len() <= 1 || !known.takes_one())
                    && accepted
                        .iter()
                        .all(|(name, weight)| *weight == ALL && names.any(|known| known == name))
            }
            (_, None) => true,
            (Self::Languages(Languages::AsSent, _), Some(accepted)) => accepted.len() <= MOST_MEMBERS,
            (_, Some(accepted)) => {
                accepted.len() <= MOST_MEMBERS && in_any_order(accepted.to_vec()) == *accepted
            }
        }
    }
}

fn weighted(reader: &mut Reader<'_>) -> Option<Weighted> {
    let name = lower_case_token(reader.bytes()?)?;
    reader.u16().filter(|weight| *weight <= ALL).map(|weight| (name, weight))
}

/// The codings that a policy would make of these names, if it takes them as they are.
fn known(form: Form, reader: &mut Reader<'_>) -> Option<Codings> {
    let names = reader.list(|reader| std::str::from_utf8(reader.bytes()?).ok())?;
    let codings = Codings::in_form(form, names.iter().copied());
    let is_taken = |known: &KnownCodings| {
        known.names.iter().map(|name| &**name).eq(names.iter().map(|name| name.as_bytes()))
    };
    matches!(&codings, Codings::Known(known) if is_taken(known)).then_some(codings)
}

fn lower_case_token(name: &[u8]) -> Option<Box<[u8]>> {
    let is_lower_case = !name.iter().any(u8::is_ascii_uppercase);
    (is_token(name) && is_lower_case).then(|| name.into())
}
