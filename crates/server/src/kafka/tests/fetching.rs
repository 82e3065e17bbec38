//! Fetch: what is read, how much, when, and what is wrong.

use super::*;

#[tokio::test]
async fn every_version_of_fetch_returns_the_batch_that_contains_the_offset() {
    let house = House::new().await;
    house.log.create("door", 1);
    house.log.append("door", 0, &[1, 1, 1]);
    house.log.append("door", 0, &[2, 2]);
    let mut client = house.client().await;
    for version in Api::Fetch.versions() {
        for in_tail in [true, false] {
            house.log.keep_in_tail(in_tail);
            let fetched = client.fetch(version, &fetch("door", 1)).await;
            assert_eq!((fetched.error, fetched.high_watermark), (0, 5));
            assert_eq!(fetched.offsets, [0, 1, 2, 3, 4]);
            assert_eq!(
                client.fetch(version, &fetch("door", 3)).await.offsets,
                [3, 4]
            );
            assert_eq!(
                client.fetch(version, &fetch("door", 5)).await.offsets,
                [0; 0]
            );
        }
    }
}

#[tokio::test]
async fn a_fetch_tells_what_is_wrong_with_a_partition() {
    let house = House::new().await;
    house.log.create("door", 1);
    house.log.create_internal("__sluice.sessions");
    house.log.append("door", 0, &[1, 1, 1]);
    house.log.set_log_start("door", 0, 1);
    let mut client = house.client().await;
    // However long they would wait, errors are told at once.
    for (offset, error) in [(-1, 1), (0, 1), (1, 0), (4, 1)] {
        assert_eq!(
            client.fetch(12, &long_poll("door", offset)).await.error,
            error,
            "{offset}"
        );
    }
    for name in ["window", "__sluice.sessions"] {
        assert_eq!(client.fetch(12, &long_poll(name, 0)).await.error, 3);
        assert_eq!(client.fetch(13, &long_poll(name, 0)).await.error, 100);
    }
    let mut request = long_poll("door", 3);
    request.topics[0].partitions[0].partition = 1;
    assert_eq!(client.fetch(12, &request).await.error, 3);
    for (epoch, error) in [(4, 74), (6, 75)] {
        let mut request = long_poll("door", 3);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(client.fetch(12, &request).await.error, error);
    }
    house.log.keep_in_tail(false);
    house.log.fail_reads();
    assert_eq!(client.fetch(12, &long_poll("door", 1)).await.error, 56);
    let errors: u64 = house
        .door
        .counters()
        .values()
        .apis
        .iter()
        .map(|api| api.errors)
        .sum();
    assert_eq!(errors, 11);
}

#[tokio::test]
async fn the_first_batch_is_whole_and_the_rest_is_bounded() {
    let house = House::new().await;
    house.log.create("door", 2);
    let one = house.log.append("door", 0, &[1; 100]);
    house.log.append("door", 0, &[1; 100]);
    house.log.append("door", 1, &[1; 100]);
    let mut client = house.client().await;
    for in_tail in [true, false] {
        house.log.keep_in_tail(in_tail);
        let mut request = fetch("door", 0);
        request.topics[0].partitions[0].partition_max_bytes = 1;
        assert_eq!(client.fetch(12, &request).await.size_bytes, one);
        request.topics[0].partitions[0].partition_max_bytes = one as i32 * 2 - 1;
        assert_eq!(client.fetch(12, &request).await.size_bytes, one);
        request.topics[0].partitions[0].partition_max_bytes = one as i32 * 2;
        assert_eq!(client.fetch(12, &request).await.size_bytes, one * 2);

        // A second partition gets only what the first has left.
        let mut other = request.topics[0].partitions[0].clone();
        other.partition = 1;
        request.topics[0].partitions.push(other);
        for (max_bytes, sizes) in [
            (1, [one, 0]),
            (one * 3 - 1, [one * 2, 0]),
            (one * 3, [one * 2, one]),
        ] {
            request.max_bytes = max_bytes as i32;
            let answer = client.ask(Api::Fetch, 12, &request).await;
            let answer: FetchResponse<'_> = decode_response(Api::Fetch, 12, &answer).unwrap();
            let rows = &answer.topics[0].partitions;
            assert_eq!(
                [rows[0].records.size_bytes(), rows[1].records.size_bytes()],
                sizes
            );
        }
    }
    assert_eq!(
        house.door.fetch_memory.available_permits(),
        crate::kafka::limits::FETCH_MEMORY_KIB_MAX as usize
    );
}

#[tokio::test]
async fn a_fetch_waits_until_a_commit_wakes_it() {
    let house = House::new().await;
    house.log.create("door", 2);
    house.log.create("other", 1);
    let mut client = house.client().await;
    client.send(Api::Fetch, 12, &long_poll("door", 0)).await;
    house.until(|values| values.fetches_parked, 1).await;
    // Neither another stream nor another partition of this one is a reason to answer.
    house.log.append("other", 0, &[1]);
    house.log.append("door", 1, &[1]);
    house.log.append("door", 0, &[1, 1]);
    let fetched = Fetched::new(12, &client.receive().await);
    assert_eq!(fetched.offsets, [0, 1]);
    house.until(|values| values.fetches_parked, 0).await;
}

#[tokio::test]
async fn a_fetch_waits_for_as_many_bytes_as_it_asks_for() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    let one = house.log.append("door", 0, &[1]);
    let request = FetchRequest {
        min_bytes: one as i32 * 3,
        ..long_poll("door", 0)
    };
    client.send(Api::Fetch, 12, &request).await;
    house.until(|values| values.fetches_parked, 1).await;
    house.log.append("door", 0, &[1]);
    house.log.append("door", 0, &[1]);
    assert_eq!(Fetched::new(12, &client.receive().await).offsets, [0, 1, 2]);
}

#[tokio::test]
async fn a_fetch_is_answered_when_its_time_is_over() {
    let house = House::with(|settings| settings.fetch_wait_ms_max = 20).await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    // The client's own time, and the server's bound on it.
    let request = FetchRequest {
        max_wait_ms: 10,
        ..long_poll("door", 0)
    };
    assert_eq!(client.fetch(12, &request).await.offsets, [0; 0]);
    assert_eq!(
        client.fetch(12, &long_poll("door", 0)).await.offsets,
        [0; 0]
    );
    // A fetch of nothing has nothing to wait for.
    let request = FetchRequest {
        topics: Vec::new(),
        ..long_poll("door", 0)
    };
    client.ask(Api::Fetch, 12, &request).await;
}

#[tokio::test]
async fn readers_of_a_flush_stream_see_what_is_flushed() {
    let house = House::new().await;
    house.log.create_flush("door");
    house.log.append("door", 0, &[1, 1]);
    house.log.flush("door", 0);
    house.log.append("door", 0, &[2, 2]);
    let mut client = house.client().await;
    for in_tail in [true, false] {
        house.log.keep_in_tail(in_tail);
        let fetched = client.fetch(12, &fetch("door", 0)).await;
        assert_eq!((fetched.offsets, fetched.high_watermark), (vec![0, 1], 2));
        assert_eq!(client.list(5, "door", timestamps::LATEST).await.1, 2);
        assert_eq!(client.list(5, "door", 2).await.1, -1);
        // An offset that is appended but not shown yet is nevertheless in range.
        let fetched = client.fetch(12, &fetch("door", 3)).await;
        assert_eq!((fetched.error, fetched.offsets), (0, vec![]));
    }
    client.send(Api::Fetch, 12, &long_poll("door", 2)).await;
    house.until(|values| values.fetches_parked, 1).await;
    house.log.flush("door", 0);
    assert_eq!(Fetched::new(12, &client.receive().await).offsets, [2, 3]);
}

#[tokio::test]
async fn what_is_appended_between_the_look_and_the_read_is_not_shown() {
    let house = House::new().await;
    house.log.create_flush("door");
    house.log.append("door", 0, &[1, 1]);
    house.log.flush("door", 0);
    house.log.append_late("door", 0, &[2, 2]);
    let mut client = house.client().await;
    let fetched = client.fetch(12, &fetch("door", 0)).await;
    assert_eq!((fetched.offsets, fetched.high_watermark), (vec![0, 1], 2));
    house.log.flush("door", 0);
    let fetched = client.fetch(12, &fetch("door", 0)).await;
    assert_eq!(fetched.offsets, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_fetch_session_that_was_never_opened_is_refused() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut client = house.client().await;
    let request = FetchRequest {
        session_id: 7,
        session_epoch: 1,
        ..long_poll("door", 0)
    };
    let answer = client.ask(Api::Fetch, 12, &request).await;
    let answer: FetchResponse<'_> = decode_response(Api::Fetch, 12, &answer).unwrap();
    assert_eq!(
        answer.error_code,
        ErrorCode::FetchSessionIdNotFound.as_i16()
    );
}

#[tokio::test]
async fn a_large_answer_is_written_whole_to_a_slow_reader() {
    let house = House::new().await;
    house.log.create("door", 1);
    let mut size_bytes = 0;
    for _ in 0..200 {
        size_bytes += house.log.append("door", 0, &[1; 2000]);
    }
    let mut client = house.client().await;
    let mut request = fetch("door", 0);
    request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
    client.send(Api::Fetch, 12, &request).await;
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    while frame(&answer, u32::MAX).unwrap().is_none() {
        let read = client.stream.read(&mut piece).await.unwrap();
        answer.extend_from_slice(&piece[..read]);
        tokio::task::yield_now().await;
    }
    let fetched = Fetched::new(12, &answer[4..]);
    assert_eq!(fetched.size_bytes, size_bytes);
    assert_eq!(fetched.offsets.len(), 400_000);
}
