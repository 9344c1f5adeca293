//! Protobuf messages as trees, to alter ONNX models in ways that stay decodable.

/// Content of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Varint(u64),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

/// A field of a message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    number: u64,
    content: Content,
}

/// Messages of onnx.proto that are opened: `(message, field, message of the field)`.
const MESSAGES: &[(&str, u64, &str)] = &[
    ("Model", 7, "Graph"),
    ("Model", 8, "OperatorSet"),
    ("Graph", 1, "Node"),
    ("Graph", 5, "Tensor"),
    ("Graph", 11, "ValueInfo"),
    ("Graph", 12, "ValueInfo"),
    ("Node", 5, "Attribute"),
    ("Attribute", 5, "Tensor"),
    ("Attribute", 6, "Graph"),
    ("ValueInfo", 2, "Type"),
    ("Type", 1, "TensorType"),
    ("TensorType", 2, "Shape"),
    ("Shape", 1, "Dimension"),
];

/// Reads an ONNX model; `None` where the bytes are none.
pub(crate) fn read(bytes: &[u8]) -> Option<Vec<Field>> {
    message(bytes, "Model")
}

fn message(mut bytes: &[u8], kind: &str) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = tag >> 3;
        let content = match tag & 7 {
            0 => Content::Varint(varint(&mut bytes)?),
            1 => Content::Fixed(take(&mut bytes, 8)?),
            5 => Content::Fixed(take(&mut bytes, 4)?),
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                let inner = take(&mut bytes, len)?;
                let known = MESSAGES.iter().find(|(outer, field, _)| *outer == kind && *field == number);
                match known.and_then(|(.., kind)| message(&inner, kind)) {
                    Some(fields) => Content::Message(fields),
                    None => Content::Bytes(inner),
                }
            }
            _ => return None,
        };
        fields.push(Field { number, content });
    }
    Some(fields)
}

fn take(bytes: &mut &[u8], len: usize) -> Option<Vec<u8>> {
    let (head, tail) = bytes.split_at_checked(len)?;
    *bytes = tail;
    Some(head.to_vec())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Writes a message.
pub(crate) fn write(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Field { number, content } in fields {
        let mut tagged = |wire: u64, len: Option<usize>, data: &[u8]| {
            write_varint(&mut bytes, number << 3 | wire);
            if let Some(len) = len {
                write_varint(&mut bytes, len as u64);
            }
            bytes.extend_from_slice(data);
        };
        match content {
            Content::Varint(value) => {
                let mut data = Vec::new();
                write_varint(&mut data, *value);
                tagged(0, None, &data);
            }
            Content::Fixed(data) => tagged(if data.len() == 8 { 1 } else { 5 }, None, data),
            Content::Bytes(data) => tagged(2, Some(data.len()), data),
            Content::Message(fields) => {
                let data = write(fields);
                tagged(2, Some(data.len()), &data);
            }
        }
    }
    bytes
}

fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Integers that break things.
const NUMBERS: &[i64] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    16,
    64,
    1000,
    65_536,
    1 << 24,
    1 << 26,
    1 << 31,
    1 << 32,
    1 << 40,
    i64::MAX,
    -1,
    -2,
    -3,
    -4,
    -1000,
    i32::MIN as i64,
    i64::MIN,
];
const FLOATS: &[f32] = &[0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, f32::MAX, f32::INFINITY, f32::NAN];

/// A change of a model, by numbers that are taken modulo what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) place: usize,
    pub(crate) kind: u8,
    pub(crate) pick: usize,
}

/// Applies a change to the field at its place, counted over the whole tree.
pub(crate) fn alter(fields: &mut Vec<Field>, change: Change) {
    let mut texts = Vec::new();
    let count = survey(fields, &mut texts);
    if count > 0 {
        let mut left = change.place % count;
        visit(fields, &mut left, change, &texts);
    }
}

/// Counts fields, and collects short byte strings: names, operators, small tensors.
fn survey(fields: &[Field], texts: &mut Vec<Vec<u8>>) -> usize {
    let mut count = fields.len();
    for field in fields {
        match &field.content {
            Content::Bytes(bytes) if bytes.len() < 64 => texts.push(bytes.clone()),
            Content::Message(fields) => count += survey(fields, texts),
            _ => {}
        }
    }
    count
}

/// Whether the change was made.
fn visit(fields: &mut Vec<Field>, left: &mut usize, change: Change, texts: &[Vec<u8>]) -> bool {
    for index in 0..fields.len() {
        if *left == 0 {
            apply(fields, index, change, texts);
            return true;
        }
        *left -= 1;
        if let Content::Message(inner) = &mut fields[index].content
            && visit(inner, left, change, texts)
        {
            return true;
        }
    }
    false
}

fn apply(fields: &mut Vec<Field>, index: usize, Change { kind, pick, .. }: Change, texts: &[Vec<u8>]) {
    let other = pick % fields.len();
    match kind % 8 {
        0 => {
            fields.remove(index);
        }
        1 => fields.insert(other, fields[index].clone()),
        2 => fields.swap(index, other),
        3 => {
            let content = fields[other].content.clone();
            fields[index].content = content;
        }
        _ => match &mut fields[index].content {
            Content::Varint(value) => *value = NUMBERS[pick % NUMBERS.len()] as u64,
            Content::Fixed(bytes) if bytes.len() == 4 => *bytes = FLOATS[pick % FLOATS.len()].to_le_bytes().to_vec(),
            Content::Fixed(bytes) => *bytes = NUMBERS[pick % NUMBERS.len()].to_le_bytes().to_vec(),
            Content::Bytes(bytes) => alter_bytes(bytes, kind, pick, texts),
            Content::Message(inner) if !inner.is_empty() => {
                let at = pick % inner.len();
                inner.rotate_left(at);
            }
            Content::Message(_) => {}
        },
    }
}

fn alter_bytes(bytes: &mut Vec<u8>, kind: u8, pick: usize, texts: &[Vec<u8>]) {
    match kind % 8 {
        4 if !texts.is_empty() => bytes.clone_from(&texts[pick % texts.len()]),
        5 => bytes.truncate(pick % (bytes.len() + 1)),
        // Packed or raw integers.
        6 if bytes.len() >= 8 => {
            let at = pick % (bytes.len() / 8) * 8;
            bytes[at..at + 8].copy_from_slice(&NUMBERS[pick % NUMBERS.len()].to_le_bytes());
        }
        _ if !bytes.is_empty() => {
            let at = pick % bytes.len();
            bytes[at] ^= 1 << (pick / bytes.len() % 8);
        }
        _ => bytes.push(pick as u8),
    }
}

#[test]
fn a_model_that_is_read_and_written_stays_the_same() {
    let model = include_bytes!("../../../../tests/fixtures/onnx/torch_style_lstm.onnx");
    let fields = read(model).unwrap();
    assert_eq!(write(&fields), model);
    let mut texts = Vec::new();
    assert!(survey(&fields, &mut texts) > 150, "the tree is open down to the attributes");
    let mut altered = fields.clone();
    alter(&mut altered, Change { place: 40, kind: 0, pick: 0 });
    assert_ne!(altered, fields);
}
