//! Requests as a broker would take them, without one.

use super::*;

const TERMS: Terms =
    Terms { wait_max: Duration::from_millis(500), bytes_max: 1_000, committed: true, rack: String::new() };

fn wanted(topic: &str, partition: i32, offset: i64) -> Wanted {
    Wanted {
        place: TopicPartition::new(topic, partition),
        topic_id: Some(Uuid::from_u128(u128::from(topic.as_bytes()[0]))),
        token: 1,
        offset,
        leader_epoch: Some(4),
        fetched_epoch: Some(3),
        bytes_max: 100,
    }
}

fn told(topic: &str, partition: i32, records: usize) -> Told {
    Told {
        topic: TopicName::Id(Uuid::from_u128(u128::from(topic.as_bytes()[0]))),
        partition,
        error: None,
        high_watermark: None,
        last_stable_offset: None,
        log_start: None,
        aborted: Vec::new(),
        preferred_replica: None,
        diverging: None,
        leader: None,
        records: 0..records,
    }
}

fn answer(session_id: i32, partitions: Vec<Told>) -> Answer {
    Answer { throttle: Duration::ZERO, error: None, session_id, partitions }
}

/// Session, partitions by topic in their order, and those that are forgotten.
type Said = ((i32, i32), Vec<(char, Vec<i32>)>, Vec<i32>);

fn said(request: &FetchRequest) -> Said {
    let name = |id: Uuid| char::from(id.as_bytes()[15]);
    let topics = request
        .topics
        .iter()
        .map(|topic| (name(topic.topic_id), topic.partitions.iter().map(|partition| partition.partition).collect()));
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone());
    ((request.session_id, request.session_epoch), topics.collect(), forgotten.collect())
}

#[test]
fn only_what_changed_is_said_in_a_session() {
    let mut session = Session::default();
    let first = vec![wanted("a", 0, 5), wanted("a", 1, 5), wanted("b", 0, 5)];
    let request = session.request(first.clone(), &TERMS, 18);
    assert_eq!(said(&request), ((0, 0), vec![('a', vec![0, 1]), ('b', vec![0])], vec![]));
    assert_eq!(
        (request.max_wait_ms, request.min_bytes, request.max_bytes, request.isolation_level),
        (500, 1, 1_000, 1)
    );
    let partition = &request.topics[0].partitions[0];
    assert_eq!((partition.current_leader_epoch, partition.last_fetched_epoch), (4, 3));
    let Applied::Partitions(answered) = session.apply(answer(9, vec![told("a", 1, 7), told("c", 0, 7)]), 18) else {
        panic!("an answer");
    };
    assert_eq!(answered.len(), 1, "nobody asked for the other");
    assert_eq!(answered[0].asked, first[1]);
    let second = vec![wanted("a", 0, 5), wanted("a", 1, 8), wanted("c", 3, 0)];
    assert_eq!(said(&session.request(second, &TERMS, 18)), ((9, 1), vec![('a', vec![1]), ('c', vec![3])], vec![0]));
    session.apply(answer(9, Vec::new()), 18);
    let third: Vec<_> = session.asked().cloned().collect();
    assert_eq!(said(&session.request(third.clone(), &TERMS, 18)), ((9, 2), vec![], vec![]));
    session.apply(answer(9, Vec::new()), 18);
    // The same for another assignment: of what the broker has told already it would say nothing more.
    let again: Vec<_> = third.into_iter().map(|asked| Wanted { token: 5, ..asked }).collect();
    let (session_of, topics, forgotten) = said(&session.request(again, &TERMS, 18));
    let said_anew: usize = topics.iter().map(|(_, partitions)| partitions.len()).sum();
    assert_eq!((session_of, said_anew, forgotten.len()), ((9, 0), 3, 0));
    assert!(session.asked().all(|asked| asked.token == 5));
}

#[test]
fn a_topic_made_again_is_forgotten_by_its_old_id() {
    let mut session = Session::default();
    session.request(vec![wanted("a", 0, 5)], &TERMS, 18);
    session.apply(answer(9, Vec::new()), 18);
    let again = Wanted { topic_id: Some(Uuid::from_u128(u128::from(b'z'))), ..wanted("a", 0, 0) };
    let request = session.request(vec![again], &TERMS, 18);
    assert_eq!(said(&request), ((9, 1), vec![('z', vec![0])], vec![0]));
    assert_eq!(request.forgotten_topics_data[0].topic_id, Uuid::from_u128(u128::from(b'a')));
}

#[test]
fn without_an_id_topics_go_by_their_names_in_a_session_of_its_own() {
    let all = [wanted("a", 0, 5), Wanted { topic_id: None, ..wanted("b", 0, 5) }];
    assert_eq!((Session::version_max(&all), Session::version_max(&all[..1])), (12, i16::MAX));
    let mut session = Session::default();
    session.request(all[..1].to_vec(), &TERMS, 18);
    session.apply(answer(9, Vec::new()), 18);
    let request = session.request(all.to_vec(), &TERMS, 12);
    assert_eq!((request.session_id, request.session_epoch), (9, 0), "the old one is closed");
    assert_eq!(request.topics[1].topic.as_str(), "b");
}

#[test]
fn old_versions_have_none_of_what_came_later() {
    use kafka_protocol::protocol::Encodable;
    for version in 4..=18 {
        let mut session = Session::default();
        let terms = Terms { rack: "r".into(), ..TERMS };
        for session_id in [3, 3, 0] {
            let request = session.request(vec![wanted("a", 0, 5)], &terms, version);
            request.encode(&mut bytes::BytesMut::new(), version).expect("the version has all of it");
            assert_eq!(&*request.rack_id == "r", version >= 11);
            session.apply(answer(session_id, Vec::new()), version);
        }
        assert_eq!(session.epoch, 0, "{version}");
    }
}

#[test]
fn who_gave_records_goes_to_the_end_where_there_is_no_session() {
    let mut session = Session::default();
    let order = |session: &mut Session| {
        let wanted = vec![wanted("a", 0, 5), wanted("a", 1, 5), wanted("b", 0, 5)];
        let request = session.request(wanted, &TERMS, 18);
        said(&request).1
    };
    assert_eq!(order(&mut session), [('a', vec![0, 1]), ('b', vec![0])]);
    session.apply(answer(0, vec![told("a", 0, 5), told("a", 1, 0)]), 18);
    assert_eq!(order(&mut session), [('a', vec![1]), ('b', vec![0]), ('a', vec![0])]);
    session.apply(answer(0, vec![told("a", 1, 5)]), 18);
    assert_eq!(order(&mut session), [('b', vec![0]), ('a', vec![0, 1])]);
}

#[test]
fn errors_begin_a_session_anew_and_the_number_comes_round() {
    let failed = |error| Answer { error: Some(error), ..answer(0, Vec::new()) };
    let mut session = Session { id: 9, epoch: i32::MAX, by_id: true, ..Session::default() };
    session.apply(answer(9, Vec::new()), 18);
    assert_eq!((session.id, session.epoch), (9, 1));
    let error = ResponseError::InvalidFetchSessionEpoch;
    assert_eq!(session.apply(failed(error), 18), Applied::Anew(error));
    assert_eq!((session.id, session.epoch), (9, 0));
    let error = ResponseError::FetchSessionIdNotFound;
    assert_eq!(session.apply(failed(error), 18), Applied::Anew(error));
    assert_eq!((session.id, session.epoch), (0, 0));
    let error = ResponseError::ClusterAuthorizationFailed;
    assert_eq!(session.apply(failed(error), 18), Applied::Failed(error));
}
