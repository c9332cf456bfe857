//! Records that are compressed are seen through, and never further than their limit.

use std::borrow::Cow;
use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use proptest::prelude::*;
use vellum_pickle::{
    Problem, Record, Reference, RenderOptions, Scanner, class_of, compressed, is_encrypted, plain, plain_within,
    references, render, rewrite_references, to_json,
};

/// A folder of one message, with so many bytes of text.
fn folder(text: usize) -> Vec<u8> {
    let head = b"\x80\x03cmail\nFolder\nq\x00.\x80\x03}(X\x05\0\0\0firstC\x08\0\0\0\0\0\0\0\x07QX\x04\0\0\0textX";
    [head, (text as u32).to_le_bytes().as_slice(), &vec![b'x'; text], b"u."].concat()
}

/// The record as a zlib stream of any level, behind the prefix.
fn stored(record: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(b".z".to_vec(), Compression::new(level));
    encoder.write_all(record).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_reader_sees_through_a_compressed_record() {
    for (text, level) in [(0, 0), (30, 1), (5_000, 6), (3_000_000, 9)] {
        let (record, stored) = (folder(text), stored(&folder(text), level));
        assert_eq!(class_of(&stored), class_of(&record));
        let options = RenderOptions::default();
        assert_eq!(render(&stored, &options), render(&record, &options));
        assert_eq!(to_json(&stored, &Default::default()), to_json(&record, &Default::default()));
        let mut found = Vec::new();
        Scanner::new().scan_all(&stored, |reference| found.push(format!("{reference:?}"))).unwrap();
        assert_eq!(found, [format!("{:?}", Reference::Strong { oid: 7, class: None })]);
        let renamed = rewrite_references(&stored, |_| Some(8)).unwrap();
        assert_eq!(renamed, rewrite_references(&record, |_| Some(8)).unwrap());
        assert_eq!(plain(&stored).unwrap(), record);
    }
}

/// A function that borrows from the record wants plain bytes; for others it returns an error, and never a wrong answer.
#[test]
fn functions_that_borrow_refuse_a_compressed_record() {
    let stored = stored(&folder(100), 6);
    assert!(references(&stored).is_err() && Record::read(&stored).is_err());
}

/// The numbers of zc.zlibstorage: no record of up to 20 bytes, none that is compressed already, none that would not
/// become shorter.
#[test]
fn a_record_is_compressed_where_that_makes_it_shorter() {
    assert_eq!(compressed(&[b'a'; 20]), None);
    assert_eq!(plain(&compressed(&[b'a'; 21]).unwrap()).unwrap(), [b'a'; 21].as_slice());
    assert_eq!(compressed(&[b".z".as_slice(), &[b'a'; 99]].concat()), None);
    let noise: Vec<u8> = (0..200_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert_eq!(compressed(&noise), None);
    assert_eq!(compressed(b""), None);
}

#[test]
fn a_stream_that_is_wrong_is_an_error_that_says_so() {
    let whole = stored(&folder(5_000), 6);
    let said = |record: &[u8]| plain(record).map(Cow::into_owned).map_err(|error| error.to_string());
    for cut in 2..whole.len() {
        let error = said(&whole[..cut]).unwrap_err();
        assert_eq!(error, format!("byte {cut}: a compressed record whose stream ends too early"));
    }
    for at in 2..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        match said(&damaged) {
            Err(error) => assert!(error.contains("a compressed record whose stream"), "{error}"),
            // In a run of one letter it does not matter how far back the stream says to look.
            Ok(same) => assert_eq!(same, folder(5_000)),
        }
    }
    assert!(said(b".znot zlib").unwrap_err().ends_with("a compressed record whose stream is damaged"));
    // ZODB ignores bytes after the end.
    assert_eq!(said(&[&whole, b"more".as_slice()].concat()), Ok(folder(5_000)));
    // And a stream of nothing it hands out as it is.
    assert_eq!(said(&stored(b"", 6)), Ok(stored(b"", 6)));
    assert!(class_of(&stored(b"", 6)).is_err());
}

#[test]
fn a_record_may_be_cut_behind_its_class() {
    let whole = stored(&folder(3_000_000), 6);
    assert_eq!(class_of(&whole[..200]).unwrap().to_string(), "mail.Folder");
    // The name of this class does not fit the bytes that are read first.
    let name = "N".repeat(100_000);
    let long = stored(format!("cmail\n{name}\n.}}.").as_bytes(), 6);
    assert_eq!(class_of(&long).unwrap().name, name);
}

#[test]
fn the_limit_is_kept_and_named() {
    let record = folder(1_000_000);
    let stored = stored(&record, 9);
    assert_eq!(plain_within(&stored, record.len()).unwrap(), record);
    for limit in [0, 1, 4096, record.len() - 1] {
        let error = plain_within(&stored, limit).unwrap_err();
        assert_eq!(error.problem, Problem::Inflated(limit as u64));
        assert!(error.to_string().contains(&format!("longer than {limit} bytes")), "{error}");
    }
}

#[test]
fn an_encrypted_record_is_no_damage_and_no_answer() {
    let record = b".esome bytes that only the owner of the key understands";
    assert!(is_encrypted(record));
    let wanted = "byte 0: the record is encrypted (cipher.encryptingstorage)";
    assert_eq!(class_of(record).unwrap_err().to_string(), wanted);
    assert_eq!(Scanner::new().scan_all(record, |_| ()).unwrap_err().to_string(), wanted);
    assert_eq!(plain(record).unwrap_err().problem, Problem::Encrypted);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_compressed_record_is_the_same_when_it_is_plain_again(record in prop::collection::vec(0_u8..4, 0..2000)) {
        if let Some(stored) = compressed(&record) {
            prop_assert!(stored.len() < record.len());
            prop_assert_eq!(plain(&stored).unwrap(), record);
        }
    }

    /// One scanner for many records, sound and not, in any order, says what one for each does.
    #[test]
    fn a_scanner_forgets_the_record_before(texts in prop::collection::vec((0_usize..3000, 0_usize..200), 1..8)) {
        let mut scanner = Scanner::new();
        for (text, cut) in texts {
            let mut record = stored(&folder(text), 6);
            record.truncate(record.len().saturating_sub(cut / 4));
            let (mut one, mut other) = (0, 0);
            let here = scanner.scan_all(&record, |_| one += 1);
            let alone = Scanner::new().scan_all(&record, |_| other += 1);
            prop_assert_eq!((here, one), (alone, other));
        }
    }
}
