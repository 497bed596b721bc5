//! JSON that has one reading: a member that occurs twice, however deep and however it is escaped, is refused, because two
//! parsers would take two different ones. For every door at which somebody else's text comes in. Must never mend what it
//! reads: a mark before it, another encoding or a second document is no JSON.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Reads one document.
///
/// # Errors
/// What makes it none, or that a member occurs twice.
pub fn value(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Once>(bytes).map(|Once(value)| value)
}

/// A JSON value in which no member occurs twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Once(pub Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Once;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_bool<E>(self, v: bool) -> Result<Once, E> {
                Ok(Once(v.into()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Once, E> {
                Ok(Once(v.into()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Once, E> {
                Ok(Once(v.into()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Once, E> {
                Ok(Once(v.into()))
            }
            fn visit_str<E>(self, v: &str) -> Result<Once, E> {
                Ok(Once(v.into()))
            }
            fn visit_unit<E>(self) -> Result<Once, E> {
                Ok(Once(Value::Null))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Once, A::Error> {
                let mut items = Vec::new();
                while let Some(Once(item)) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Once(Value::Array(items)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once, A::Error> {
                let mut members = Map::new();
                while let Some((name, Once(value))) = map.next_entry::<String, Once>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member occurs twice"));
                    }
                }
                Ok(Once(Value::Object(members)))
            }
        }
        d.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn utf16(text: &str, mark: bool) -> Vec<u8> {
        let mark: &[u8] = if mark { &[0xff, 0xfe] } else { &[] };
        [mark.to_vec(), text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat()
    }

    /// T26: each beside the honest text.
    #[rstest]
    #[case::twice(br#"{"a":1,"a":1}"#.to_vec())]
    #[case::twice_below(br#"{"b":{"a":1,"a":2}}"#.to_vec())]
    #[case::twice_in_a_list(br#"[[{"a":1,"a":2}]]"#.to_vec())]
    #[case::twice_by_an_escape(br#"{"a":1,"\u0061":2}"#.to_vec())]
    #[case::twice_by_escapes_of_both_kinds(br#"{"\/":1,"/":2}"#.to_vec())]
    #[case::twice_by_a_pair_of_escapes("{\"\u{1f511}\":1,\"\\ud83d\\udd11\":2}".as_bytes().to_vec())]
    #[case::a_second_document(br#"{"a":1}{"a":2}"#.to_vec())]
    #[case::a_second_line(b"{\"a\":1}\n{\"a\":2}".to_vec())]
    #[case::a_byte_order_mark("\u{feff}{\"a\":1}".as_bytes().to_vec())]
    #[case::utf_16(utf16(r#"{"a":1}"#, false))]
    #[case::utf_16_with_its_mark(utf16(r#"{"a":1}"#, true))]
    #[case::packed(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3])]
    #[case::half_a_character(b"{\"a\":\"\xc3\"}".to_vec())]
    #[case::a_lone_half_of_a_pair(br#"{"a":"\ud83d"}"#.to_vec())]
    #[case::a_comment(b"{\"a\":1/* */}".to_vec())]
    #[case::a_comma_too_many(br#"{"a":1,}"#.to_vec())]
    #[case::no_number(br#"{"a":NaN}"#.to_vec())]
    #[case::too_deep([vec![b'['; 1_000], vec![b']'; 1_000]].concat())]
    #[case::nothing(Vec::new())]
    fn t26_what_has_more_than_one_reading_is_refused(#[case] bytes: Vec<u8>) {
        let read = value(&bytes);
        assert!(read.is_err(), "{read:?}");
    }

    #[rstest]
    #[case::an_object(r#"{"a":1,"b":{"a":1}}"#)]
    #[case::the_same_name_in_two_objects(r#"[{"a":1},{"a":2}]"#)]
    #[case::other_capitals(r#"{"a":1,"A":2}"#)]
    #[case::white_space(" \n{\"a\" : null }\t")]
    #[case::numbers("[0,-1,1.5,18446744073709551615]")]
    fn what_has_one_reading_is_read_as_it_is(#[case] text: &str) {
        assert_eq!(value(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }
}
