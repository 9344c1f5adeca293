use super::*;

fn answered(body: Vec<u8>) -> (u16, String, Vec<u8>) {
    let response = Response::builder().header(header::CONTENT_TYPE, "text/csv").header(REQUEST_ID, "r1");
    let response = within_limit(response.body(body).unwrap());
    assert_eq!(response.headers()[REQUEST_ID], "r1");
    let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
    (response.status().as_u16(), kind, response.body().to_vec())
}

#[test]
fn answers_that_lambda_would_not_take_say_so() {
    let binary = |len: usize| vec![0xff; len];
    for body in [Vec::new(), vec![b'x'; MAX_ANSWER_BYTES], vec![b'"'; MAX_ANSWER_BYTES / 2], binary(4_000_000)] {
        assert_eq!(answered(body.clone()), (200, "text/csv".into(), body));
    }
    for body in [vec![b'x'; MAX_ANSWER_BYTES + 1], vec![b'"'; MAX_ANSWER_BYTES / 2 + 1], binary(4_200_000)] {
        let (status, kind, answer) = answered(body);
        assert_eq!((status, kind.as_str()), (413, "application/json"));
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["error_code"], "INVALID_PARAMETER_VALUE");
        assert!(answer["hint"].as_str().unwrap().contains("`limit`"), "{answer}");
    }
}

#[test]
fn text_is_counted_as_json_writes_it() {
    let text: String = (0..=0x7f_u8).map(char::from).chain("\u{7f}äß€🦀".chars()).collect();
    let written = serde_json::to_string(&text).unwrap();
    assert_eq!(text.bytes().map(escaped_bytes).sum::<usize>(), written.len() - 2);
}
