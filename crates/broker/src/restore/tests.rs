//! Records of the session table that this version cannot read are named, each kind of them.

use super::*;
use crate::inbox::Owed;
use crate::message::Position;
use crate::shard::table::{
    write_chunk, write_inflight, write_number, write_positions, write_presence, write_subscription,
};
use crate::will::OwnedWill;
use commitlog::batch::BatchBuilder;
use mqtt::{QoS, SubscribeOptions};

fn owed() -> Owed {
    Owed::new(
        Position {
            partition: 3,
            offset: 4,
        },
        QoS::AtLeastOnce,
    )
}

/// A record of each kind, as this version writes it: key and value.
fn each_kind() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    let mut add = |kind, rest: &[u8], write: &dyn Fn(&mut Vec<u8>)| {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        Key::write(&mut key, kind, "c", rest);
        write(&mut value);
        records.push((key, value));
    };
    let session = SessionRecord {
        expiry_s: 60,
        protocol: 5,
        disconnected_ms: None,
        username: None,
    };
    let id = 7_u16.to_be_bytes();
    let number = 7_u64.to_be_bytes();
    let options = SubscribeOptions::from_u8(1).unwrap();
    let position = owed().position;
    add(Kind::Session, &[], &|out| session.write(out));
    add(Kind::Will, &[], &|out| {
        WillRecord::write(Some("u"), &OwnedWill::default(), out);
    });
    add(Kind::Subscription, b"a/#", &|out| {
        write_subscription(out, options, 0);
    });
    add(Kind::Received, &id, &write_presence);
    add(Kind::Inflight, &id, &|out| {
        write_inflight(out, &owed(), false, &[], None);
    });
    add(Kind::Pushed, &[], &|out| {
        write_inflight(out, &owed(), false, &[], None);
    });
    add(Kind::Chunk, &number, &|out| {
        write_chunk(out, 0, &mut [owed()].into_iter(), &[]);
    });
    add(Kind::Queue, &[], &|out| {
        write_chunk(out, 0, &mut [owed()].into_iter(), &[]);
    });
    add(Kind::Head, &[], &|out| write_number(out, 7));
    add(Kind::Dropped, &[], &|out| {
        write_positions(out, [position].into_iter());
    });
    add(Kind::Settled, &[], &|out| {
        write_positions(out, [position].into_iter());
    });
    add(Kind::Marker, &[9], &|out| Marker::default().write(out));
    records
}

#[test]
fn what_this_version_writes_it_reads_and_other_versions_are_named() {
    let records = each_kind();
    assert_eq!(records.len(), 12);
    for (key, mut value) in records {
        assert_eq!(check_record(5, &key, Some(&value)), Ok(()), "{key:?}");
        value[0] = 99;
        let unreadable = check_record(5, &key, Some(&value)).unwrap_err();
        assert_eq!((unreadable.offset, unreadable.version), (5, Some(99)));
        assert_eq!(check_record(5, &key, Some(&[])).unwrap_err().version, None);
        assert_eq!(
            check_record(5, &key, None),
            Ok(()),
            "a tombstone is no loss"
        );
    }
}

#[test]
fn the_message_names_the_stream_the_offset_and_the_version() {
    let mut key = Vec::new();
    Key::write(&mut key, Kind::Session, "c", &[]);
    let unreadable = check_record(12, &key, Some(&[3, 0])).unwrap_err();
    assert_eq!(
        unreadable.to_string(),
        "stream __sluice.sessions, offset 12: a session (format version 3) that this version of \
         Sluice cannot read"
    );
    let unknown = check_record(13, b"Z\0\0\0\x01c", Some(&[1])).unwrap_err();
    assert_eq!(unknown.about, "a record of an unknown kind");
}

#[test]
fn a_journal_entry_is_checked_record_by_record_in_the_session_table_alone() {
    let mut key = Vec::new();
    Key::write(&mut key, Kind::Head, "c", &[]);
    let mut good = Vec::new();
    write_number(&mut good, 1);
    let mut builder = BatchBuilder::new();
    builder.push(1, Some(&key), Some(&good), &[]);
    builder.push(1, Some(&key), Some(&[9, 9]), &[]);
    let batch = Bytes::from(builder.finish());
    assert_eq!(check_entry(4, &[(5, 0, batch.clone())]), Ok(()));
    let unreadable = check_entry(5, &[(5, 0, batch)]).unwrap_err();
    assert_eq!((unreadable.offset, unreadable.version), (1, Some(9)));
    let torn = Bytes::from_static(b"no batch");
    assert_eq!(
        check_entry(5, &[(5, 8, torn)]).unwrap_err().about,
        "a malformed batch"
    );
}
